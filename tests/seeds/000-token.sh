& turnout sample-app --color blue --port 5001
& turnout sample-app --color green --port 5002
export BLUE_URL=http://127.0.0.1:5001
export GREEN_URL=http://127.0.0.1:5002
export ROUTER_PORT=8080
# seed 000:60
export ORCH_TOKEN=your_token
& turnout serve
until curl -sf http://127.0.0.1:8080/readyz
until curl -sf -H 'Authorization: Bearer your_token' http://127.0.0.1:8080/health | jq -e '.upstreams.green.healthy'
# seed 000:61 Then include Authorization: Bearer your_token in requests
curl -s -o /dev/null -w '%{http_code}' -X POST http://127.0.0.1:8080/orchestration/bluegreen/activate -H 'Content-Type: application/json' -d '{"active":"green"}'
= 401
curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8080/orchestration/status -H 'Authorization: Bearer wrong'
= 401
curl -s -X POST http://127.0.0.1:8080/orchestration/bluegreen/activate -H 'Authorization: Bearer your_token' -H 'Content-Type: application/json' -d '{"active":"green"}'
= "active":"green"
curl -s http://127.0.0.1:8080/orchestration/status -H 'Authorization: Bearer your_token'
= "active":"green"
