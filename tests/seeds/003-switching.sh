<< turnout.yaml
version: 1
state: { dir: state }
balancer: { kind: embedded }
control: { listen: "127.0.0.1:9180" }
services:
  app:
    listen: 127.0.0.1:80/
    blue: { servers: ["http://127.0.0.1:8080"] }
    green: { servers: ["http://127.0.0.1:8081"] }
    health: { path: /health, interval: 200ms, expect: { json: { status: healthy, database_connected: true } } }
.
sed -i 's|^\(    listen: .*\)/$|\1|' turnout.yaml
# seed 003:852 start-environment.sh blue, start-environment.sh green
& env ENVIRONMENT_COLOR=blue PORT=8080 APP_VERSION=v1.0 turnout sample-app
& env ENVIRONMENT_COLOR=green PORT=8081 APP_VERSION=v2.0 turnout sample-app
& turnout serve
until curl -sf http://127.0.0.1:9180/readyz
# seed 003:859
until curl -s http://localhost:8080/health | jq -e '.environment == "blue"'
# seed 003:860
until curl -s http://localhost:8081/health | jq -e '.environment == "green"'
# seed 003:867
curl http://localhost:8080/health | jq '.version'
= v1.0
# seed 003:868
curl http://localhost:8081/health | jq '.version'
= v2.0
# seed 003:2128 the health document
curl -s http://localhost:8080/health | jq -e 'has("status") and has("environment") and has("version") and has("uptime_seconds") and has("timestamp") and has("hostname") and has("database_connected")'
until turnout status -o json | jq -e '[.services[0].servers[][] | .health == "healthy"] | all'
# seed 003:2108 default active is blue
cat state/active/app
= blue
# seed 003:878 switch-traffic.sh blue
turnout switch blue
for i in {1..5}; do curl -s http://localhost:80/ | grep -o "blue" | head -1; done | sort -u
= blue
not green
# seed 003:890 switch-traffic.sh green
turnout switch green
for i in {1..5}; do curl -s http://localhost:80/ | grep -o "green" | head -1; done | sort -u
= green
not blue
# seed 003:5250 the public health says green
curl -s http://localhost:80/health | jq -e '.environment == "green"'
# seed 003:2122 the state file has exactly the color, no newline
test "$(wc -c < state/active/app)" = 5
cat state/active/app
= green
# seed 003:2607 manager.sh check blue
turnout check app blue
# seed 003:902 ../scripts/rollback.sh
turnout rollback
cat state/active/app
= blue
# seed 003:5004 who holds the lock
turnout lock status
# seed 003:5007 the last deployments
turnout history -n 3
= rollback
= switch
