//! Tokens that another program presents, and their rotation.

use subtle::{Choice, ConstantTimeEq as _};

use super::{ConfigErrors, Secret};

/// A token that callers present and, during a rotation, the one before it: both are valid until the former is unset.
///
/// How a rotation goes: the new token is set as the current one and the old one as the previous one here; then callers are given
/// the new one; then the previous one is unset. No call is refused meanwhile.
#[derive(Clone, Debug)]
pub struct ServiceTokens {
    current: Secret,
    previous: Option<Secret>,
}

impl ServiceTokens {
    /// `None` without a current token: nothing is checked then, and a previous one alone has no meaning (see [`Self::check`]).
    pub fn new(current: Option<Secret>, previous: Option<Secret>) -> Option<Self> {
        current.map(|current| Self { current, previous })
    }

    /// Whether this is one of the two. Both are compared whatever comes out of the first, so that time tells neither which of them it
    /// was nor how much of it was right, only their lengths.
    pub fn matches(&self, presented: &[u8]) -> bool {
        let same = |token: &Secret| token.expose().as_bytes().ct_eq(presented);
        let previous = self.previous.as_ref().map_or_else(|| Choice::from(0), same);
        (same(&self.current) | previous).into()
    }

    /// Reports what cannot have been meant: an empty token, which whoever sends an empty header has, and a previous one without a
    /// current one. `name` is the variable of the current one; the previous one's is `<name>_PREVIOUS`.
    pub fn check(name: &str, current: Option<&Secret>, previous: Option<&Secret>, errors: &mut ConfigErrors) {
        if current.is_some_and(|token| token.expose().is_empty()) {
            errors.other(format!("{name} is empty: set a token or leave it unset"));
        }
        match (current, previous) {
            (_, Some(token)) if token.expose().is_empty() => {
                errors.other(format!("{name}_PREVIOUS is empty: set the former token or leave it unset"));
            }
            (None, Some(_)) => {
                errors.other(format!(
                    "{name}_PREVIOUS is set without {name}: set the token that is valid from now on"
                ));
            }
            _ => {}
        }
    }
}

/// Values that examples and older set-ups ship with (the platform refuses the same in production).
const WELL_KNOWN: [&str; 4] = ["local-runner-key", "changeme", "change-me", "secret"];

/// The shortest token of an operator. Random text of this length has at least 64 bits, which nobody tries over a network.
const MIN_ADMIN_TOKEN_CHARS: usize = 16;

crate::settings! {
    /// Who may use the admin API: whoever presents this token.
    pub struct AdminTokenSettings, group "Admin token", validate check_admin {
        /// What operators and the command line present as `authorization: Bearer`: at least 16 visible ASCII characters, chosen at random
        /// (`openssl rand -hex 32`).
        pub token: Option<Secret>, env "LONGSHORE_ADMIN_TOKEN", file "LONGSHORE_ADMIN_TOKEN_FILE";
        /// During a rotation: the former token, which stays valid until this is unset.
        pub previous: Option<Secret>, env "LONGSHORE_ADMIN_TOKEN_PREVIOUS", file "LONGSHORE_ADMIN_TOKEN_PREVIOUS_FILE";
    }
}

impl AdminTokenSettings {
    /// The tokens that are valid; `None` where none is set. An admin API without one must not start.
    pub fn tokens(&self) -> Option<ServiceTokens> {
        ServiceTokens::new(self.token.clone(), self.previous.clone())
    }
}

fn check_admin(config: &AdminTokenSettings, errors: &mut ConfigErrors) {
    const NAME: &str = "LONGSHORE_ADMIN_TOKEN";
    ServiceTokens::check(NAME, config.token.as_ref(), config.previous.as_ref(), errors);
    for (token, name) in [(&config.token, NAME), (&config.previous, "LONGSHORE_ADMIN_TOKEN_PREVIOUS")] {
        let Some(token) = token.as_ref().map(Secret::expose).filter(|token| !token.is_empty()) else {
            continue;
        };
        if WELL_KNOWN.contains(&token.to_ascii_lowercase().as_str()) {
            errors.other(format!(
                "{name} is a value that everybody knows: set a random one (openssl rand -hex 32)"
            ));
        } else if token.len() < MIN_ADMIN_TOKEN_CHARS {
            errors.other(format!(
                "{name} has {} characters: at least {MIN_ADMIN_TOKEN_CHARS} are needed (openssl rand -hex 32)",
                token.len()
            ));
        } else if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            errors.other(format!(
                "{name} holds a blank or something else that no header can: set visible ASCII only"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn tokens(current: &str, previous: Option<&str>) -> ServiceTokens {
        ServiceTokens::new(Some(Secret::new(current)), previous.map(Secret::new)).unwrap()
    }

    #[test]
    fn during_a_rotation_both_tokens_are_valid_and_nothing_else() {
        let both = tokens("new-token", Some("old-token"));
        for good in ["new-token", "old-token"] {
            assert!(both.matches(good.as_bytes()), "{good}");
        }
        for bad in ["", "new-toke", "old-tokem", "new-tokenold-token", "NEW-TOKEN", "new-token "] {
            assert!(!both.matches(bad.as_bytes()), "{bad:?}");
        }
        assert!(!tokens("new-token", None).matches(b"old-token"));
        assert!(!tokens("new-token", None).matches(b""));
    }

    #[test]
    fn a_previous_token_alone_checks_nothing_and_is_reported() {
        assert!(ServiceTokens::new(None, Some(Secret::new("old"))).is_none());
        let mut errors = ConfigErrors::default();
        ServiceTokens::check("TOKEN", None, Some(&Secret::new("old")), &mut errors);
        ServiceTokens::check("TOKEN", Some(&Secret::new("")), Some(&Secret::new("")), &mut errors);
        let text = errors.to_string();
        for part in ["TOKEN_PREVIOUS is set without TOKEN", "TOKEN is empty", "TOKEN_PREVIOUS is empty"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn the_tokens_are_not_printed() {
        let text = format!("{:?}", tokens("hunter2", Some("hunter1")));
        assert!(!text.contains("hunter"), "{text}");
    }

    fn load(pairs: &[(&str, &str)]) -> Result<AdminTokenSettings, String> {
        let env: BTreeMap<String, String> =
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        AdminTokenSettings::load(&env, ["admin".to_owned()]).map_err(|e| e.to_string())
    }

    #[test]
    fn an_admin_token_that_is_short_or_known_to_everybody_does_not_start() {
        for bad in [
            "local-runner-key",
            "Local-Runner-Key",
            "changeme",
            "change-me",
            "secret",
            "fifteen-letters",
            "with a blank in it",
            "schlüssel-schlüssel",
        ] {
            for name in ["LONGSHORE_ADMIN_TOKEN", "LONGSHORE_ADMIN_TOKEN_PREVIOUS"] {
                let good = if name == "LONGSHORE_ADMIN_TOKEN" { "X" } else { "LONGSHORE_ADMIN_TOKEN" };
                let error = load(&[(good, "0123456789abcdef"), (name, bad)]).unwrap_err();
                assert!(error.contains(name), "{bad}: {error}");
                assert!(!error.contains(bad), "{bad}: {error}");
            }
        }
        let both = [
            ("LONGSHORE_ADMIN_TOKEN", "0123456789abcdef"),
            ("LONGSHORE_ADMIN_TOKEN_PREVIOUS", "fedcba9876543210"),
        ];
        assert!(load(&both).unwrap().tokens().unwrap().matches(b"fedcba9876543210"));
        assert!(load(&[]).unwrap().tokens().is_none());
    }
}
