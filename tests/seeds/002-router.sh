<< turnout.yaml
version: 1
state: { dir: state }
balancer: { kind: embedded }
control: { listen: "127.0.0.1:9180" }
services:
  app:
    # main_port, and the ports of the two versions
    listen: 127.0.0.1:5004
    blue: { servers: ["http://127.0.0.1:5005"] }
    green: { servers: ["http://127.0.0.1:5006"] }
    health: { path: /health, interval: 200ms }
    # connection_timeout, read_timeout
    timeouts: { connect: 5s, response: 30s }
    # metrics_enabled
    metrics: true
.
# seed 002:141 blue_green_deploy start blue
& turnout sample-app --color blue --port 5005 --app-version 1.0
# seed 002:38 traffic_router start
& turnout serve
until curl -sf http://127.0.0.1:9180/readyz
until turnout status --exit-code
# seed 002:31 blue_green_deploy status
turnout status
= app
= blue 100%
# seed 002:45 traffic_router status
turnout status app
= Active     blue
= ✔ Up
# seed 002:151
curl http://localhost:5004/health
= "environment":"blue"
# seed 002:220 GET /__router_health
curl -s http://127.0.0.1:5004/__router_health
= "status":"healthy"
= "active_port":5005
= "active_version":"blue"
# seed 002:48 traffic_router metrics
turnout metrics
= REQUESTS
= SUCCESSFUL
= FAILED
= RATE
= BYTES
= AVERAGE
= BLUE
= GREEN
# seed 002:51 traffic_router test
turnout test
= backend
= router
= metrics
= ✔ Passed
not ✖
# seed 002:158 blue_green_deploy start green
& turnout sample-app --color green --port 5006 --app-version 1.1
# seed 002:163 blue_green_deploy health-check
until turnout check
= green
= ✔ Up
until turnout status -o json | jq -e '.services[0].servers.green[0].health == "healthy"'
# seed 002:168 blue_green_deploy switch green
turnout switch green
curl -s http://127.0.0.1:5004/__router_health
= "active_port":5006
= "active_version":"green"
curl -s http://localhost:5004/health
= "environment":"green"
# seed 002:170 blue remains running for instant rollback
curl -s http://127.0.0.1:5005/health
= "environment":"blue"
# seed 002:176 blue_green_deploy rollback
turnout rollback
curl -s http://localhost:5004/health
= "environment":"blue"
# seed 002:405 simple load test with curl
for i in {1..100}; do curl -s http://localhost:5004/health > /dev/null & done; wait
# seed 002:221 GET /__router_metrics
until test "$(curl -s http://127.0.0.1:5004/__router_metrics | jq .total_requests)" -ge 100
curl -s http://127.0.0.1:5004/__router_metrics | jq -e '.success_rate == 100 and .successful_requests == .total_requests and .failed_requests == 0 and .version_requests.blue + .version_requests.green == .total_requests and .bytes_proxied > 0 and .avg_request_time_ms > 0'
# seed 002:387 dashboard at /monitoring
curl -s http://localhost:5004/monitoring
= <h1>app</h1>
# seed 002:295 Metrics endpoint 404 where metrics are off
sed -i 's/metrics: true/metrics: false/' turnout.yaml
until test "$(curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:5004/__router_metrics)" = 404
