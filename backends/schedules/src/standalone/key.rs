//! Keys `<tenant>.<install>.<id>`. Whatever a tenant or an install is called, it is one token: two installs never meet, and
//! no name is a wildcard.

use longshore_proto::TenantId;
use longshore_service::nats::buckets::token;
use uuid::Uuid;

/// The longest install id; the platform's are UUIDs.
const MAX_INSTALL_BYTES: usize = 256;

/// What all keys of an install begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InstallKey(String);

impl InstallKey {
    /// `None` for an install id that is empty or too long to be one.
    pub(crate) fn new(tenant: &TenantId, install: &str) -> Option<Self> {
        let fits = (1..=MAX_INSTALL_BYTES).contains(&install.len());
        fits.then(|| Self(format!("{}.{}", token(tenant.as_str()), token(install))))
    }

    /// The key of one schedule, or `None` if the id is not spelled as this crate spells ids: there is no such schedule.
    pub(crate) fn schedule(&self, id: &str) -> Option<String> {
        let parsed = Uuid::parse_str(id).ok()?;
        (parsed.hyphenated().to_string() == id).then(|| format!("{}.{id}", self.0))
    }

    /// A filter for all of the install's schedules.
    pub(crate) fn all(&self) -> String {
        format!("{}.*", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0f0e0d0c-0b0a-4908-8706-050403020100";

    fn key(tenant: &str, install: &str) -> String {
        InstallKey::new(&tenant.parse().unwrap(), install).unwrap().schedule(ID).unwrap()
    }

    #[test]
    fn a_key_has_three_tokens_whatever_the_names_hold() {
        for install in ["a.b", "*", ">", "a.>", "..", "x y", "ü", "a=2Eb", "\0", "/", "a.b.c.d"] {
            let key = key("t.1", install);
            assert_eq!(key.split('.').count(), 3, "{key}");
            assert!(!key.contains(['*', '>', ' ', '\0']), "{key}");
        }
    }

    #[test]
    fn two_owners_never_share_a_key() {
        let names = ["a", "a.b", "a=2Eb", "a_b", "a-b", "A", "b.a", "=", "=3D"];
        let mut keys: Vec<_> = ["t", "t.u", "t-u"]
            .iter()
            .flat_map(|tenant| names.iter().map(move |install| key(tenant, install)))
            .collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 27);
    }

    #[test]
    fn what_is_no_id_of_ours_names_nothing() {
        let install = InstallKey::new(&"t".parse().unwrap(), "i").unwrap();
        for bad in ["", "*", ">", "x", "../x", &ID.to_uppercase(), &ID.replace('-', ""), &format!("{{{ID}}}")]
        {
            assert_eq!(install.schedule(bad), None, "{bad}");
        }
        assert!(install.schedule(ID).is_some());
    }

    #[test]
    fn an_install_without_a_name_or_with_an_endless_one_has_no_keys() {
        let tenant = "t".parse().unwrap();
        assert_eq!(InstallKey::new(&tenant, ""), None);
        assert_eq!(InstallKey::new(&tenant, &"x".repeat(257)), None);
    }
}
