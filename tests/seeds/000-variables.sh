& turnout sample-app --color blue --port 5001
& turnout sample-app --color green --port 5002
# seed 000:64 BLUE_URL, GREEN_URL
export BLUE_URL=http://127.0.0.1:5001
export GREEN_URL=http://127.0.0.1:5002
# seed 000:66 ROUTER_HOST
export ROUTER_HOST=127.0.0.1
# seed 000:67 ROUTER_PORT
export ROUTER_PORT=8080
# seed 000:68 DEFAULT_STRATEGY
export DEFAULT_STRATEGY=canary
# seed 000:69 DEFAULT_ACTIVE
export DEFAULT_ACTIVE=green
# seed 000:70 DEFAULT_BLUE_WEIGHT
export DEFAULT_BLUE_WEIGHT=25
# seed 000:71 DEFAULT_GREEN_WEIGHT
export DEFAULT_GREEN_WEIGHT=75
# seed 000:73 STICKY_SESSIONS
export STICKY_SESSIONS=false
# seed 000:74 UPSTREAM_HEALTH_PATH
export UPSTREAM_HEALTH_PATH=/health
# seed 000:75 PROXY_TIMEOUT
export PROXY_TIMEOUT=3
& turnout serve
until curl -sf http://127.0.0.1:8080/readyz
curl -s http://127.0.0.1:8080/orchestration/status
= "strategy":"canary"
= "active":"green"
= "weights":{"blue":25
until for i in $(seq 200); do curl -s -o /dev/null -w '%header{x-routed-to}\n' -H 'X-Session-Key: alice' http://127.0.0.1:8080/; done | sort -u | wc -l | grep -qx 2
