<< turnout.yaml
version: 1
state: { dir: state }
balancer: { kind: embedded }
control: { listen: "127.0.0.1:9180" }
services:
  checkout-api:
    listen: 127.0.0.1:8080
    blue: { servers: ["http://127.0.0.1:5001"] }
    green: { servers: ["http://127.0.0.1:5002"] }
.
& turnout sample-app --color blue --port 5001 --app-version v2.0.3
& turnout sample-app --color green --port 5002 --app-version v2.1.0
& turnout serve
until curl -sf http://127.0.0.1:9180/health | jq -e '.upstreams.green.healthy'
# seed 001:22 GET /health
curl -sf http://127.0.0.1:9180/health
= "active":"blue"
# seed 001:23 POST /deployments, with the body of the page
<< deployment.json
  {
    "service_name": "checkout-api",
    "new_version": "v2.1.0",
    "baseline_version": "v2.0.3",
    "strategy": {"initial_weight": 5, "step_weight": 10, "interval_sec": 60, "max_steps": 10},
    "policy": {
      "max_error_rate": 0.01,
      "max_latency_p95_ms": 350,
      "min_availability": 0.995,
      "max_cpu_utilization": 0.8,
      "min_requests": 200,
      "min_samples": 3,
      "sample_window_sec": 60,
      "max_consecutive_failures": 1
    }
  }
.
curl -s -o begun.json -w '%{http_code}' -X POST http://127.0.0.1:9180/deployments -H 'Content-Type: application/json' -d @deployment.json
= 201
until curl -sf http://127.0.0.1:9180/deployments/$(jq -r .id begun.json) | jq -e '.weight == 5'
# seed 001:41 GET /deployments
curl -sf http://127.0.0.1:9180/deployments | jq -e 'map(.id) == [input.id]' - begun.json
# seed 001:42 GET /deployments/{id}
curl -sf http://127.0.0.1:9180/deployments/$(jq -r .id begun.json)
= "service_name":"checkout-api"
= "new_version":"v2.1.0"
= "candidate":"green"
# the split is in force, and not only written down
curl -sf http://127.0.0.1:9180/orchestration/status | jq -e '.weights == { blue: 95, green: 5 }'
# seed 001:44 POST /metrics, with the body of the page
<< metrics.json
  {
    "deployment_id": "UUID",
    "metrics": {
      "requests": 1000,
      "errors": 5,
      "latency_p95_ms": 280,
      "availability": 0.999,
      "cpu_utilization": 0.45
    }
  }
.
sed "s/UUID/$(jq -r .id begun.json)/" metrics.json | curl -s -o /dev/null -w '%{http_code}' -X POST http://127.0.0.1:9180/metrics -H 'Content-Type: application/json' -d @-
= 202
# a second one of the same service
curl -s -o /dev/null -w '%{http_code}' -X POST http://127.0.0.1:9180/deployments -H 'Content-Type: application/json' -d @deployment.json
= 409
# seed 001:43 POST /deployments/{id}/cancel
curl -sf -X POST http://127.0.0.1:9180/deployments/$(jq -r .id begun.json)/cancel
= "status":"cancelled"
curl -sf http://127.0.0.1:9180/orchestration/status | jq -e '.active == "blue" and .weights.green == 0'
curl -s -o /dev/null -w '%{http_code}' -X POST http://127.0.0.1:9180/deployments/$(jq -r .id begun.json)/cancel
= 409
curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:9180/deployments/00000000-0000-4000-8000-000000000000
= 404
