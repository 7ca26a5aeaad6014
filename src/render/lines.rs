//! Which template line a rendered line comes from, so that "in turnout.conf:19" can be told as a line that a person wrote.
//!
//! A second rendering carries a marker at the end of every template line that does not end inside a `{{ }}`, `{% %}` or
//! `{# #}`. Without the markers both renderings have the same non-blank lines in the same order (a marker after a block
//! keeps a line end that would have been trimmed, which only makes blank lines). Where that does not hold, because a
//! template trims across lines with `-%}`, nothing is said rather than something wrong.

/// Between the marker's parts; in no configuration that anybody writes.
const MARK: char = '\u{1}';

/// `source` with a marker that names `name` and the line at the end of each line.
pub(super) fn marked(name: &str, source: &str) -> String {
    let mut marked = String::with_capacity(source.len() * 2);
    // the closing delimiter of the construct that the line ended in, if it did
    let mut closing: Option<&str> = None;
    for (number, line) in source.split_inclusive('\n').enumerate() {
        let (content, end) = line
            .strip_suffix('\n')
            .map_or((line, ""), |content| (content, "\n"));
        let mut rest = content;
        loop {
            match closing {
                Some(delimiter) => match rest.find(delimiter) {
                    Some(at) => {
                        rest = &rest[at + delimiter.len()..];
                        closing = None;
                    }
                    None => break,
                },
                None => match ["{{", "{%", "{#"]
                    .into_iter()
                    .filter_map(|opening| rest.find(opening).map(|at| (at, opening)))
                    .min()
                {
                    Some((at, opening)) => {
                        rest = &rest[at + 2..];
                        closing = Some(match opening {
                            "{{" => "}}",
                            "{%" => "%}",
                            _ => "#}",
                        });
                    }
                    None => break,
                },
            }
        }
        marked.push_str(content);
        if closing.is_none() {
            marked.push(MARK);
            marked.push_str(name);
            marked.push(':');
            marked.push_str(&(number + 1).to_string());
            marked.push(MARK);
        }
        marked.push_str(end);
    }
    marked
}

/// For each line of `plain`, the template and line it comes from; empty if the two renderings do not align.
pub(super) fn origins(plain: &str, with_marks: &str) -> Vec<Option<(String, usize)>> {
    let mut marked_lines = with_marks
        .lines()
        .map(unmark)
        .filter(|(text, _)| !text.trim().is_empty());
    let mut origins = Vec::new();
    for line in plain.lines() {
        if line.trim().is_empty() {
            origins.push(None);
            continue;
        }
        match marked_lines.next() {
            Some((text, origin)) if text.trim_end() == line.trim_end() => origins.push(origin),
            _ => return Vec::new(),
        }
    }
    origins
}

/// A line without its markers, and what the first of them says: the place where its text begins.
fn unmark(line: &str) -> (String, Option<(String, usize)>) {
    let mut text = String::new();
    let mut origin = None;
    for (place, part) in line.split(MARK).enumerate() {
        if place.is_multiple_of(2) {
            text.push_str(part);
        } else if origin.is_none() {
            origin = part
                .rsplit_once(':')
                .and_then(|(name, line)| Some((name.to_owned(), line.parse().ok()?)));
        }
    }
    (text, origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_inside_a_construct_are_not_marked() {
        let source = "a\n{{ b\n}} c\n{# d\n{{ #}\n{% if x\n%}";
        let marked = marked("t", source);
        let seen: Vec<_> = marked
            .lines()
            .map(|line| unmark(line).1.map(|(_, line)| line))
            .collect();
        assert_eq!(seen, [Some(1), None, Some(3), None, Some(5), None, Some(7)]);
    }

    #[test]
    fn renderings_that_do_not_align_say_nothing() {
        assert_eq!(
            origins("a\n\nb\n", "a\u{1}t:1\u{1}\nb\u{1}t:7\u{1}\n"),
            [Some(("t".into(), 1)), None, Some(("t".into(), 7))]
        );
        assert_eq!(origins("a b\n", "a\u{1}t:1\u{1}\nb\n"), []);
    }
}
