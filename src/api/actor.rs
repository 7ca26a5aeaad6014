//! Who the audit log names for a change that came over the API: who was verified first, and what the command says of itself
//! marked as its own word, so that the record reads as if the command had made the change without a daemon.

use http::{HeaderMap, HeaderValue};

use super::guard::LOOPBACK;

/// What a command says of who runs it, such as `anna@vm (cli)`. Believed by nobody, and recorded.
const CLAIM: &str = "x-turnout-actor";
/// Far longer than user and host, far shorter than what would fill a log.
const LONGEST: usize = 200;

/// The header that carries a claim; `None` for what no header can carry (a name that is not ASCII).
pub(super) fn claim(actor: &str) -> Option<(&'static str, HeaderValue)> {
    Some((CLAIM, HeaderValue::from_str(actor).ok()?))
}

/// The actor of a change: `caller` is who the guard let in.
pub(super) fn recorded(caller: String, headers: &HeaderMap) -> String {
    let claim = headers
        .get(CLAIM)
        .and_then(|value| value.to_str().ok())
        .map(str::trim)
        .filter(|claim| !claim.is_empty() && claim.len() <= LONGEST);
    let Some(claim) = claim else {
        return caller;
    };
    let is_same = claim
        .strip_prefix(caller.as_str())
        .is_some_and(|rest| rest.starts_with('@'));
    if is_same {
        // the kernel says the same of the socket's other end
        claim.to_owned()
    } else if caller == LOOPBACK {
        match claim.strip_suffix(')') {
            Some(open) if open.contains('(') => format!("{open}, via {caller})"),
            Some(_) | None => format!("{claim} (via {caller})"),
        }
    } else {
        format!("{caller}: {claim}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(caller: &str, said: &str) -> String {
        let mut headers = HeaderMap::new();
        if let Some((name, value)) = claim(said) {
            headers.insert(name, value);
        }
        recorded(caller.to_owned(), &headers)
    }

    #[test]
    fn a_claim_is_recorded_behind_or_beside_who_is_known() {
        for (caller, said, actor) in [
            ("loopback", "root@vm (cli)", "root@vm (cli, via loopback)"),
            ("loopback", "root@vm", "root@vm (via loopback)"),
            ("loopback", "", "loopback"),
            ("ci", "root@vm (cli)", "ci: root@vm (cli)"),
            ("root", "root@vm (cli)", "root@vm (cli)"),
            ("root", "anna@vm (cli)", "root: anna@vm (cli)"),
            ("root", "rooter@vm (cli)", "root: rooter@vm (cli)"),
            ("loopback", "änna@vm\n", "loopback"),
        ] {
            assert_eq!(of(caller, said), actor, "{caller} {said:?}");
        }
        assert_eq!(of("ci", &"x".repeat(LONGEST + 1)), "ci");
    }
}
