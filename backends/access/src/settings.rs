//! Settings of the recognition of callers.

use std::path::PathBuf;
use std::time::Duration;

use longshore_service::config::{ConfigErrors, Seconds};

use crate::Access;

longshore_service::setting_enum! {
    /// What a JWT allows that says nothing about it.
    pub enum DefaultAccess {
        /// Nothing: it is refused.
        None = "none",
        /// Reading.
        Read = "read",
        /// Reading and writing.
        Write = "write",
    }
}

impl DefaultAccess {
    /// As the gateway knows it; None: refused.
    pub const fn access(self) -> Option<Access> {
        match self {
            Self::None => None,
            Self::Read => Some(Access::Read),
            Self::Write => Some(Access::Write),
        }
    }
}

/// More than this is no difference between clocks.
const MAX_LEEWAY: Duration = Duration::from_secs(300);

longshore_service::settings! {
    /// Who may call the gateway besides the bearers of tokens: whoever has a JWT of this issuer. Issuer, audience and keys belong together.
    pub struct AccessSettings, group "Callers", validate check {
        /// Who issues the JWTs that are taken: the exact text of `iss`, several separated by commas. Unset: none is taken.
        pub issuers: Vec<String>, env "LONGSHORE_JWT_ISSUER";
        /// For whom they must have been issued: the exact text of `aud`, or one of its texts.
        pub audience: Option<String>, env "LONGSHORE_JWT_AUDIENCE";
        /// The file with the issuer's public keys (a JWK set, at most 256 KiB and 64 keys; RSA from 2048 bits, P-256, Ed25519). It is read again
        /// within 10 s after it has changed; a file that cannot be read then leaves the keys as they are.
        pub jwks_file: Option<PathBuf>, env "LONGSHORE_JWT_JWKS_FILE";
        /// The claim that names the tenant: a text, never a list.
        pub tenant_claim: String = "tenant", env "LONGSHORE_JWT_TENANT_CLAIM";
        /// The claim that says what is allowed: `longshore:read` or `longshore:write` among its words (a text with blanks, or a list).
        pub access_claim: String = "scope", env "LONGSHORE_JWT_ACCESS_CLAIM";
        /// What a JWT allows whose claim has neither word: `none` (it is refused), `read` or `write`.
        pub default_access: DefaultAccess = "none", env "LONGSHORE_JWT_DEFAULT_ACCESS";
        /// How far the issuer's clock may be from this machine's; at most 300 s.
        pub leeway: Seconds = "30", env "LONGSHORE_JWT_LEEWAY";
    }
}

impl AccessSettings {
    /// Whether JWTs are taken.
    pub fn takes_jwts(&self) -> bool {
        !self.issuers.is_empty() && self.audience.is_some() && self.jwks_file.is_some()
    }
}

fn check(config: &AccessSettings, errors: &mut ConfigErrors) {
    let parts = [
        ("LONGSHORE_JWT_ISSUER", !config.issuers.is_empty()),
        ("LONGSHORE_JWT_AUDIENCE", config.audience.is_some()),
        ("LONGSHORE_JWT_JWKS_FILE", config.jwks_file.is_some()),
    ];
    let missing: Vec<_> = parts.iter().filter(|(_, set)| !set).map(|(name, _)| *name).collect();
    if !missing.is_empty() && missing.len() < parts.len() {
        // A signature by a known key alone would let in whatever that issuer signed for anybody else.
        errors.other(format!(
            "issuer, audience and keys of JWTs belong together: {} is missing (set all three or none)",
            missing.join(" and ")
        ));
    }
    // An empty one counts as unset; one that is a blank was meant to be something.
    if config.audience.as_ref().is_some_and(|audience| audience.trim().is_empty()) {
        errors.other("LONGSHORE_JWT_AUDIENCE is blank: set the audience that the issuer writes into `aud`");
    }
    if config.tenant_claim == config.access_claim {
        errors.other("LONGSHORE_JWT_TENANT_CLAIM and LONGSHORE_JWT_ACCESS_CLAIM name the same claim");
    }
    for (name, claim) in [
        ("LONGSHORE_JWT_TENANT_CLAIM", &config.tenant_claim),
        ("LONGSHORE_JWT_ACCESS_CLAIM", &config.access_claim),
    ] {
        // Times and the issuer say something else; `sub` and custom claims may be a tenant.
        if ["iss", "aud", "exp", "nbf", "iat", "jti"].contains(&claim.as_str()) {
            errors.invalid(name, claim, "a claim that is not iss, aud, exp, nbf, iat or jti");
        }
    }
    if config.leeway.get() > MAX_LEEWAY {
        errors.invalid("LONGSHORE_JWT_LEEWAY", config.leeway.get().as_secs(), "at most 300");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn load(pairs: &[(&str, &str)]) -> Result<AccessSettings, String> {
        let env: BTreeMap<String, String> =
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        AccessSettings::load(&env, ["shim".to_owned()]).map_err(|e| e.to_string())
    }

    const ISSUER: (&str, &str) = ("LONGSHORE_JWT_ISSUER", "https://id.example, https://id2.example");
    const AUDIENCE: (&str, &str) = ("LONGSHORE_JWT_AUDIENCE", "longshore");
    const KEYS: (&str, &str) = ("LONGSHORE_JWT_JWKS_FILE", "/keys.json");

    #[test]
    fn issuer_audience_and_keys_come_together_and_the_error_names_what_is_missing() {
        assert!(!load(&[]).unwrap().takes_jwts());
        let settings = load(&[ISSUER, AUDIENCE, KEYS]).unwrap();
        assert!(settings.takes_jwts());
        assert_eq!(settings.issuers, ["https://id.example", "https://id2.example"]);
        for (set, missing) in [
            (vec![ISSUER], vec![AUDIENCE, KEYS]),
            (vec![AUDIENCE], vec![ISSUER, KEYS]),
            (vec![KEYS], vec![ISSUER, AUDIENCE]),
            (vec![ISSUER, KEYS], vec![AUDIENCE]),
            (vec![ISSUER, AUDIENCE], vec![KEYS]),
            (vec![AUDIENCE, KEYS], vec![ISSUER]),
        ] {
            let error = load(&set).unwrap_err();
            for (name, _) in missing {
                assert!(error.contains(name), "{name}: {error}");
            }
        }
    }

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let settings = load(&[]).unwrap();
        assert_eq!((settings.tenant_claim.as_str(), settings.access_claim.as_str()), ("tenant", "scope"));
        assert_eq!(settings.default_access.access(), None);
        assert_eq!(settings.leeway.get(), Duration::from_secs(30));
    }

    #[test]
    fn settings_that_make_no_sense_do_not_start() {
        for (name, value) in [
            ("LONGSHORE_JWT_LEEWAY", "301"),
            ("LONGSHORE_JWT_TENANT_CLAIM", "iss"),
            ("LONGSHORE_JWT_TENANT_CLAIM", "scope"),
            ("LONGSHORE_JWT_ACCESS_CLAIM", "exp"),
            ("LONGSHORE_JWT_DEFAULT_ACCESS", "admin"),
        ] {
            assert!(load(&[(name, value)]).unwrap_err().contains(name), "{name}={value}");
        }
    }
}
