//! What the words behind a verb mean: service, color, strategy, weights. Pure; a word that means nothing is wrong usage.

use super::{CliError, Subject};
use crate::config::Config;
use crate::domain::{Color, Colors, ServiceName, Split, SplitError, Strategy};

/// A service and a color, either of which may be left out.
pub(super) type Named = (Option<ServiceName>, Option<Color>);

/// `[SERVICE] [COLOR]`: one word alone is a color if it is named like one.
pub(super) fn service_and_color(subject: &Subject) -> Result<Named, CliError> {
    match (subject.first.as_deref(), subject.second) {
        (None, color) => Ok((None, color)),
        (Some(word), None) => match word.parse::<Color>() {
            Ok(color) => Ok((None, Some(color))),
            Err(_) => Ok((Some(service(word)?), None)),
        },
        (Some(word), color) => Ok((Some(service(word)?), color)),
    }
}

fn service(word: &str) -> Result<ServiceName, CliError> {
    word.parse()
        .map_err(|error: crate::domain::InvalidName| CliError::Usage {
            message: error.to_string(),
        })
}

/// Refuses a service that the configuration does not have. Says more than the controller can: a word that stood alone may
/// have been meant as a color.
pub(super) fn known(
    config: Option<&Config>,
    service: Option<&ServiceName>,
    alone: bool,
) -> Result<(), CliError> {
    let Some(config) = config else {
        return Ok(());
    };
    let known = config.services.keys().chain(config.aliases.keys());
    among(&known.collect::<Vec<_>>(), service, alone)
}

/// As [`known`], for services that a daemon told.
pub(super) fn among(
    known: &[&ServiceName],
    service: Option<&ServiceName>,
    alone: bool,
) -> Result<(), CliError> {
    let Some(service) = service.filter(|service| !known.contains(service)) else {
        return Ok(());
    };
    let names: Vec<&str> = known.iter().map(|name| name.as_str()).collect();
    let names = names.join(", ");
    Err(CliError::Usage {
        message: if alone {
            format!("`{service}` is neither a color (blue, green) nor a service ({names})")
        } else {
            format!("there is no service `{service}`; there is {names}")
        },
    })
}

/// `[SERVICE] STRATEGY`
pub(super) fn service_and_strategy(
    words: &[String],
) -> Result<(Option<ServiceName>, Strategy), CliError> {
    let (name, word) = match words {
        [word] => (None, word),
        [name, word] => (Some(service(name)?), word),
        _ => {
            return Err(usage(
                "write: turnout strategy [SERVICE] <blue_green|canary>",
            ));
        }
    };
    let strategy = [Strategy::BlueGreen, Strategy::Canary]
        .into_iter()
        .find(|strategy| strategy.as_str() == word)
        .ok_or_else(|| {
            usage(&format!(
                "unknown strategy `{word}`: it is blue_green or canary"
            ))
        })?;
    Ok((name, strategy))
}

/// `[SERVICE] blue=N green=N`; one of the two alone leaves the rest to the other color.
pub(super) fn service_and_weights(
    words: &[String],
    normalize: bool,
) -> Result<(Option<ServiceName>, Split), CliError> {
    let mut name = None;
    let mut given = Colors::<Option<f64>>::default();
    for word in words {
        let Some((color, number)) = word.split_once('=') else {
            if name.replace(service(word)?).is_some() {
                return Err(usage(&format!(
                    "`{word}` is a second service: write [SERVICE] blue=N green=N"
                )));
            }
            continue;
        };
        let color: Color = color
            .parse()
            .map_err(|error: crate::domain::ParseColorError| usage(&error.to_string()))?;
        let number: f64 = number
            .parse()
            .map_err(|_error: std::num::ParseFloatError| {
                usage(&format!("`{word}` has no number behind the `=`"))
            })?;
        if given[color].replace(number).is_some() {
            return Err(usage(&format!("{color} is given twice")));
        }
    }
    let split = match (given.blue, given.green, normalize) {
        (Some(blue), Some(green), true) => Split::normalized(blue, green),
        (Some(blue), Some(green), false) => Split::from_percents(blue, green),
        (Some(blue), None, false) => Split::from_percents(blue, 100.0 - blue),
        (None, Some(green), false) => Split::from_percents(100.0 - green, green),
        (_, _, true) => return Err(usage("--normalize needs both blue=N and green=N")),
        (None, None, false) => {
            return Err(usage("name the weights, such as blue=80 green=20"));
        }
    };
    let split = split.map_err(|error| {
        usage(&match error {
            SplitError::Sum { blue, green } => format!(
                "blue {blue} and green {green} add up to {}, not 100: --normalize scales them",
                blue + green
            ),
            SplitError::OutOfRange(_)
            | SplitError::TooFine(_)
            | SplitError::NothingToScale { .. } => error.to_string(),
        })
    })?;
    Ok((name, split))
}

fn usage(message: &str) -> CliError {
    CliError::Usage {
        message: message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn subject(first: Option<&str>, second: Option<Color>) -> Named {
        service_and_color(&Subject {
            first: first.map(str::to_owned),
            second,
        })
        .unwrap()
    }

    #[test]
    fn one_word_is_a_color_if_it_is_named_like_one() {
        let shop: ServiceName = "shop".parse().unwrap();
        assert_eq!(subject(None, None), (None, None));
        assert_eq!(subject(Some("green"), None), (None, Some(Color::Green)));
        assert_eq!(subject(Some("shop"), None), (Some(shop.clone()), None));
        assert_eq!(
            subject(Some("shop"), Some(Color::Blue)),
            (Some(shop), Some(Color::Blue))
        );
    }

    #[test]
    fn weights_are_read_in_any_order_and_one_gives_the_other() {
        let shop: ServiceName = "shop".parse().unwrap();
        let eighty = Split::from_percents(80.0, 20.0).unwrap();
        for text in ["shop blue=80 green=20", "green=20 shop blue=80"] {
            assert_eq!(
                service_and_weights(&words(text), false).unwrap(),
                (Some(shop.clone()), eighty),
                "{text}"
            );
        }
        assert_eq!(
            service_and_weights(&words("green=20"), false).unwrap(),
            (None, eighty)
        );
        assert_eq!(
            service_and_weights(&words("blue=4 green=1"), true).unwrap(),
            (None, eighty)
        );
    }

    #[test]
    fn wrong_weights_say_what_is_wrong() {
        for (text, normalize, part) in [
            ("blue=80 green=30", false, "add up to 110"),
            ("blue=80 red=20", false, "unknown color `red`"),
            ("blue=80 blue=20", false, "given twice"),
            ("blue=many", false, "no number"),
            ("blue=NaN green=1", false, "from 0 to 100"),
            ("blue=-1 green=101", false, "from 0 to 100"),
            ("shop", false, "name the weights"),
            ("shop blog blue=1", false, "second service"),
            ("blue=3", true, "needs both"),
            ("blue=0 green=0", true, "cannot be scaled"),
        ] {
            let error = service_and_weights(&words(text), normalize).unwrap_err();
            assert!(error.to_string().contains(part), "{text}: {error}");
            assert_eq!(error.exit(), crate::exit::ExitCode::Usage);
        }
    }

    #[test]
    fn strategies_are_named_as_in_the_configuration() {
        assert_eq!(
            service_and_strategy(&words("canary")).unwrap(),
            (None, Strategy::Canary)
        );
        let error = service_and_strategy(&words("shop bluegreen")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown strategy `bluegreen`: it is blue_green or canary"
        );
    }
}
