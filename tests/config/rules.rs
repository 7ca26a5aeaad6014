//! What no value shows alone: rules between services, their listeners and their servers.

use super::{load, messages};

#[test]
fn rules_between_services_name_both_sides() {
    let two = |first: &str, second: &str| {
        format!(
            "services:\n  one:\n    {first}\n    blue: {{ servers: [\"http://127.0.0.1:1\"] }}\n    green: {{ servers: [\"http://127.0.0.1:2\"] }}\n  two:\n    {second}\n    blue: {{ servers: [\"http://127.0.0.1:3\"] }}\n    green: {{ servers: [\"http://127.0.0.1:4\"] }}\n"
        )
    };
    let one_listener = "listen: 0.0.0.0:80";
    for (text, wanted) in [
        (
            two(one_listener, one_listener),
            vec![
                "turnout.yaml:6:3: `one` and `two` both take any host on 0.0.0.0:80: give one of them `hosts`",
            ],
        ),
        (
            two("{ listen: 0.0.0.0:80, hosts: [A.com] }", "")
                .replace("    {", "    <<: {")
                .replace("    \n", "    listen: 0.0.0.0:80\n    hosts: [a.com]\n"),
            vec![
                "turnout.yaml:8:13: the host a.com is claimed by `one` and by `two` on 0.0.0.0:80",
            ],
        ),
        (
            two("listen: 0.0.0.0:80", "listen: 0.0.0.0:81")
                .replace("two:", "o-ne:")
                .replace("one:", "o_ne:"),
            vec!["turnout.yaml:2:3: the services `o-ne` and `o_ne` differ only in `-` and `_`"],
        ),
        (
            two("public: http://shop.test/", "public: http://shop.test/"),
            vec![
                "turnout.yaml:7:13: `one` has the same `public`, and a proof could not tell who answers: give each a URL of its own, or an address as `public` and different `hosts`",
            ],
        ),
        (
            // asked at one address, each by its host
            two("{ public: http://127.0.0.1/, hosts: [a.test] }", "")
                .replace("    {", "    <<: {")
                .replace(
                    "    \n",
                    "    public: http://127.0.0.1/\n    hosts: [b.test]\n",
                ),
            vec![],
        ),
        (
            two("listen: 0.0.0.0:80", "listen: 0.0.0.0:3"),
            vec![
                "turnout.yaml:8:23: services.two: http://127.0.0.1:3 is the listener of `two`, so requests would go round in a circle",
            ],
        ),
        (
            two("listen: 0.0.0.0:80", "listen: 0.0.0.0:81").replace(":4", ":3"),
            vec!["turnout.yaml:9:24: services.two: http://127.0.0.1:3 is a server of both colors"],
        ),
        (
            two("listen: 0.0.0.0:80", "listen: 0.0.0.0:81").replace("127.0.0.1:4", "127.0.0.1:80"),
            vec![
                "turnout.yaml:9:24: services.two: http://127.0.0.1:80 is the listener of `one`, so requests would go round in a circle",
            ],
        ),
        (
            two("listen: 127.0.0.1:9181", "listen: 0.0.0.0:9180"),
            vec![
                "turnout.yaml:3:13: services.one.listen: 127.0.0.1:9181 is balancer.nginx.prove already",
                "turnout.yaml:7:13: services.two.listen: 0.0.0.0:9180 is the address of the control API already",
            ],
        ),
        (
            format!(
                "{}state: {{ follow: {{ file: a, field: b }} }}\n",
                two("listen: 0.0.0.0:80", "listen: 0.0.0.0:81")
            ),
            vec!["turnout.yaml:10:10: state.follow must name its `service`, as there are several"],
        ),
        (
            "balancer: { kind: embedded }\n".to_owned() + &two("project: x", "listen: 0.0.0.0:81"),
            vec![
                "turnout.yaml:3:3: services.one needs a `listen` such as 0.0.0.0:8080, as the balancer is the embedded proxy",
            ],
        ),
        (
            two(
                "listen: 0.0.0.0:80\n    hosts: [a.com]\n    tls: { cert: a, key: b }",
                "listen: 0.0.0.0:80\n    hosts: [b.com]\n    proxy_protocol: true",
            ),
            vec![
                "turnout.yaml:8:3: services.two: `tls` must be the same for all services on 0.0.0.0:80: this one has none, `one` differs",
                "turnout.yaml:11:21: services.two: `proxy_protocol` must be the same for all services on 0.0.0.0:80: this one has it, `one` differs",
            ],
        ),
        (
            "version: 1\n".to_owned(),
            vec![
                "turnout.yaml:1:1: there is no service: add one under `services`, or a file with one to `include`",
            ],
        ),
        (
            "just text\n".to_owned(),
            vec!["turnout.yaml:1:1: a configuration is a map of keys, and this is none"],
        ),
    ] {
        let found = messages(load(&text));
        let found: Vec<&str> = found
            .iter()
            .map(String::as_str)
            .take(wanted.len())
            .collect();
        assert_eq!(found, wanted, "{text}");
    }
}
