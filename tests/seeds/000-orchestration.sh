# seed 000:16 python apps/blue/app.py
& turnout sample-app --color blue --port 5001 --app-version v1.0.0
# seed 000:18 python apps/green/app.py
& turnout sample-app --color green --port 5002 --app-version v1.1.0
# seed 000:22
export BLUE_URL=http://127.0.0.1:5001
# seed 000:23
export GREEN_URL=http://127.0.0.1:5002
# seed 000:24
export ROUTER_PORT=8080
# seed 000:26 python -m router.app
& turnout serve
until curl -sf http://127.0.0.1:8080/readyz
# seed 000:29
curl -s http://127.0.0.1:8080/
= blue
# seed 000:32 GET /health
until curl -sf http://127.0.0.1:8080/health | jq -e '.upstreams.blue.healthy and .upstreams.green.healthy'
curl -s http://127.0.0.1:8080/health
= "status":"healthy"
= "strategy":"blue_green"
= "active":"blue"
= "url":"http://127.0.0.1:5001"
# seed 000:35 GET /orchestration/status
curl -s http://127.0.0.1:8080/orchestration/status
= "strategy":"blue_green"
= "active":"blue"
= "weights":{"blue":100
# seed 000:79
curl -X POST http://127.0.0.1:8080/orchestration/strategy -H 'Content-Type: application/json' -d '{"strategy":"canary"}'
= "strategy":"canary"
# seed 000:80
curl -X POST http://127.0.0.1:8080/orchestration/canary/weights -H 'Content-Type: application/json' -d '{"blue":90, "green":10, "normalize": true}'
= "weights":{"blue":90
# seed 000:45 If normalize=true, values are normalized to sum 100
curl -s -X POST http://127.0.0.1:8080/orchestration/canary/weights -H 'Content-Type: application/json' -d '{"blue":9, "green":1, "normalize": true}'
= "weights":{"blue":90
# seed 000:83
curl -X POST http://127.0.0.1:8080/orchestration/canary/shift -H 'Content-Type: application/json' -d '{"delta":10, "towards":"green"}'
= "weights":{"blue":80
# seed 000:48 delta is clamped to 0..100
curl -s -X POST http://127.0.0.1:8080/orchestration/canary/shift -H 'Content-Type: application/json' -d '{"delta":500, "towards":"blue"}'
= "weights":{"blue":100
curl -s -X POST http://127.0.0.1:8080/orchestration/canary/weights -H 'Content-Type: application/json' -d '{"blue":50, "green":50}'
= "weights":{"blue":50
# seed 000:52 X-Session-Key keeps users pinned
for i in 1 2 3 4 5 6 7 8; do curl -s -o /dev/null -w '%header{x-routed-to}\n' -H 'X-Session-Key: alice' http://127.0.0.1:8080/; done | sort -u | wc -l | grep -qx 1
for i in 1 2 3 4 5 6 7 8; do curl -s -o /dev/null -w '%header{x-routed-to}\n' --cookie session_id=bob http://127.0.0.1:8080/; done | sort -u | wc -l | grep -qx 1
# seed 000:54 routing metadata headers
curl -s -o /dev/null -D - http://127.0.0.1:8080/ | tr -d '\r' | grep -iE '^x-routed-to: (blue|green)$'
curl -s -o /dev/null -D - http://127.0.0.1:8080/ | tr -d '\r' | grep -iE '^x-upstream-url: http://127.0.0.1:(5001|5002)$'
# seed 000:86
curl -X POST http://127.0.0.1:8080/orchestration/strategy -H 'Content-Type: application/json' -d '{"strategy":"blue_green"}'
= "strategy":"blue_green"
# seed 000:87
curl -X POST http://127.0.0.1:8080/orchestration/bluegreen/activate -H 'Content-Type: application/json' -d '{"active":"green"}'
= "active":"green"
curl -s -o /dev/null -D - http://127.0.0.1:8080/
= green
