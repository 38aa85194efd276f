//! All installs in memory, found by whatever callers call them. No I/O.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use longshore_proto::install::Install;
use longshore_proto::{ContentHash, ExtensionId, TenantId};

use crate::seam::{HostTarget, Lookup};

/// The longest text that can name an install: a publisher and a name of 256 bytes each.
const MAX_REFERENCE: usize = 513;

/// What is known.
#[derive(Default)]
pub(crate) struct Index {
    tenants: HashMap<TenantId, Tenant>,
    /// Who claims a host: the first of them has it.
    hosts: HashMap<String, BTreeSet<Claim>>,
    count: usize,
}

/// Ordered by age: RFC 3339 in UTC sorts as text.
type Claim = (String, TenantId, ExtensionId);

#[derive(Default)]
struct Tenant {
    installs: BTreeMap<ExtensionId, Arc<Install>>,
    by_install_id: Names,
    /// Manifest names and slugs, lower-cased.
    by_name: Names,
    /// Records that cannot be read, with what was known of them before.
    damaged: BTreeMap<ExtensionId, Option<Arc<Install>>>,
}

/// Text to all that it may mean.
#[derive(Default)]
struct Names(HashMap<String, BTreeSet<ExtensionId>>);

impl Names {
    fn add(&mut self, name: String, extension: &ExtensionId) {
        self.0.entry(name).or_default().insert(extension.clone());
    }

    fn remove(&mut self, name: &str, extension: &ExtensionId) {
        if let Some(all) = self.0.get_mut(name) {
            all.remove(extension);
            if all.is_empty() {
                self.0.remove(name);
            }
        }
    }

    /// What the text means, if it means one thing.
    fn only(&self, name: &str) -> Option<&ExtensionId> {
        let all = self.0.get(name)?;
        if all.len() == 1 { all.first() } else { None }
    }
}

/// The names of an install that are no ids.
fn names(install: &Install) -> [Option<String>; 2] {
    let version = &install.version;
    [
        (!version.name.is_empty()).then(|| version.name.to_lowercase()),
        (!version.name.is_empty() && !version.publisher.is_empty()).then(|| version.slug()),
    ]
}

/// Whether a caller may mean this install.
fn is_called(install: &Install, reference: &str) -> bool {
    install.install_id == reference
        || install.extension.as_str() == reference
        || names(install).contains(&Some(reference.to_lowercase()))
}

impl Tenant {
    fn is_empty(&self) -> bool {
        self.installs.is_empty() && self.damaged.is_empty()
    }
}

/// A record that was asked for cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Damaged;

impl Index {
    /// How many installs there are.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Adds or replaces one; what was there before.
    pub(crate) fn put(&mut self, install: Arc<Install>) -> Option<Arc<Install>> {
        let before = self.remove(&install.tenant, &install.extension);
        let extension = &install.extension;
        let tenant = self.tenants.entry(install.tenant.clone()).or_default();
        tenant.by_install_id.add(install.install_id.clone(), extension);
        for name in names(&install).into_iter().flatten() {
            tenant.by_name.add(name, extension);
        }
        for host in &install.hosts {
            self.hosts.entry(host.clone()).or_default().insert(claim(&install));
        }
        tenant.installs.insert(extension.clone(), install);
        self.count += 1;
        before
    }

    /// Notes that a record cannot be read; what was known of it is not used any more.
    pub(crate) fn damage(&mut self, tenant: &TenantId, extension: &ExtensionId) {
        let before = self.remove(tenant, extension);
        self.tenants.entry(tenant.clone()).or_default().damaged.insert(extension.clone(), before);
    }

    /// Removes one; what was there.
    pub(crate) fn remove(&mut self, tenant: &TenantId, extension: &ExtensionId) -> Option<Arc<Install>> {
        let of_tenant = self.tenants.get_mut(tenant)?;
        of_tenant.damaged.remove(extension);
        let install = of_tenant.installs.remove(extension);
        if let Some(install) = &install {
            self.count -= 1;
            of_tenant.by_install_id.remove(&install.install_id, extension);
            for name in names(install).into_iter().flatten() {
                of_tenant.by_name.remove(&name, extension);
            }
            for host in &install.hosts {
                if let Some(claims) = self.hosts.get_mut(host) {
                    claims.remove(&claim(install));
                    if claims.is_empty() {
                        self.hosts.remove(host);
                    }
                }
            }
        }
        if of_tenant.is_empty() {
            self.tenants.remove(tenant);
        }
        install
    }

    /// An install by the ids of its key.
    pub(crate) fn get(&self, tenant: &TenantId, extension: &ExtensionId) -> Option<&Arc<Install>> {
        self.tenants.get(tenant)?.installs.get(extension)
    }

    /// See [`crate::Registry::find`].
    pub(crate) fn find(&self, tenant: &TenantId, reference: &str) -> Result<Lookup, Damaged> {
        let Some(tenant) = self.tenants.get(tenant) else { return Ok(Lookup::Absent) };
        if reference.is_empty() || reference.len() > MAX_REFERENCE {
            return Ok(Lookup::Absent);
        }
        let by_extension = || {
            let id: ExtensionId = reference.parse().ok()?;
            tenant.installs.get(&id)
        };
        let named = |extension: &ExtensionId| tenant.installs.get(extension);
        let found = tenant
            .by_install_id
            .only(reference)
            .and_then(named)
            .or_else(by_extension)
            .or_else(|| tenant.by_name.only(&reference.to_lowercase()).and_then(named));
        let meant = |(extension, before): (&ExtensionId, &Option<Arc<Install>>)| {
            extension.as_str() == reference || before.as_ref().is_some_and(|i| is_called(i, reference))
        };
        match found {
            Some(install) => Ok(Lookup::Found(install.clone())),
            None if tenant.damaged.iter().any(meant) => Err(Damaged),
            None => Ok(Lookup::Absent),
        }
    }

    /// See [`crate::Registry::validate`].
    pub(crate) fn validate(
        &self,
        tenant: &TenantId,
        extension: &ExtensionId,
        hash: ContentHash,
    ) -> Result<bool, Damaged> {
        let Some(of_tenant) = self.tenants.get(tenant) else { return Ok(false) };
        match of_tenant.installs.get(extension) {
            Some(install) => {
                let mut versions = std::iter::once(&install.version).chain(&install.previous);
                Ok(versions.any(|version| version.content_hash == hash))
            }
            None if of_tenant.damaged.contains_key(extension) => Err(Damaged),
            None => Ok(false),
        }
    }

    /// Who has a host: whoever claimed it first, also while disabled, so that nobody gets it by waiting.
    pub(crate) fn holder(&self, host: &str) -> Option<&Arc<Install>> {
        let (_, tenant, extension) = self.hosts.get(host)?.first()?;
        self.get(tenant, extension)
    }

    /// See [`crate::Registry::by_host`].
    pub(crate) fn by_host(&self, host: &str) -> Option<HostTarget> {
        let install = self.holder(host).filter(|install| install.enabled)?;
        Some(HostTarget {
            tenant: install.tenant.clone(),
            extension: install.extension.clone(),
            content_hash: install.version.content_hash,
        })
    }

    /// How many a tenant has, those that cannot be read included.
    pub(crate) fn count_of(&self, tenant: &TenantId) -> usize {
        self.tenants.get(tenant).map_or(0, |tenant| tenant.installs.len() + tenant.damaged.len())
    }

    /// The extensions of a tenant, those whose records cannot be read included.
    pub(crate) fn extensions_of(&self, tenant: &TenantId) -> Vec<ExtensionId> {
        let Some(tenant) = self.tenants.get(tenant) else { return Vec::new() };
        tenant.installs.keys().chain(tenant.damaged.keys()).cloned().collect()
    }

    /// A tenant's installs, by extension id.
    pub(crate) fn of_tenant<'a>(&'a self, tenant: &TenantId) -> impl Iterator<Item = &'a Arc<Install>> + 'a {
        self.tenants.get(tenant).into_iter().flat_map(|tenant| tenant.installs.values())
    }

    /// Tenants that have installs, in order.
    pub(crate) fn tenants(&self) -> BTreeSet<&TenantId> {
        self.tenants.keys().collect()
    }
}

fn claim(install: &Install) -> Claim {
    (install.created_at.clone(), install.tenant.clone(), install.extension.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::install;

    fn tenant(id: &str) -> TenantId {
        id.parse().unwrap()
    }

    fn with(installs: impl IntoIterator<Item = Install>) -> Index {
        let mut index = Index::default();
        for install in installs {
            index.put(Arc::new(install));
        }
        index
    }

    fn found(index: &Index, of: &str, reference: &str) -> Option<String> {
        match index.find(&tenant(of), reference).unwrap() {
            Lookup::Found(install) => Some(install.extension.to_string()),
            Lookup::Absent => None,
        }
    }

    #[test]
    fn an_install_is_found_by_each_of_its_names_in_any_case_and_by_its_ids_as_they_are() {
        let index = with([install("t", "ext-1", "Alga", "com.alga.Hello")]);
        for reference in [
            "i-t-ext-1",
            "ext-1",
            "com.alga.hello",
            "COM.Alga.HELLO",
            "alga.com.alga.hello",
            "Alga.com.alga.Hello",
        ] {
            assert_eq!(found(&index, "t", reference).as_deref(), Some("ext-1"), "{reference}");
        }
        for reference in
            ["", "alga", "ext", "EXT-1", "I-T-EXT-1", "*", "com.alga.hello ", &"x".repeat(10_000)]
        {
            assert_eq!(found(&index, "t", reference), None, "{reference}");
        }
    }

    #[test]
    fn another_tenants_install_is_found_by_nothing() {
        let index = with([install("t", "ext-1", "alga", "hello"), install("u", "ext-2", "alga", "other")]);
        for reference in ["i-t-ext-1", "ext-1", "hello", "alga.hello"] {
            assert_eq!(found(&index, "u", reference), None, "{reference}");
        }
    }

    #[test]
    fn a_name_that_two_extensions_share_finds_neither_until_one_goes() {
        let mut index = with([install("t", "e1", "a", "x"), install("t", "e2", "b", "x")]);
        assert_eq!(found(&index, "t", "x"), None);
        assert_eq!(found(&index, "t", "a.x").as_deref(), Some("e1"));
        index.remove(&tenant("t"), &"e1".parse().unwrap());
        assert_eq!(found(&index, "t", "x").as_deref(), Some("e2"));
        assert_eq!(found(&index, "t", "a.x"), None);
    }

    #[test]
    fn the_slug_of_one_that_is_the_name_of_another_finds_neither() {
        let index = with([install("t", "e1", "a", "b.c"), install("t", "e2", "x", "a.b.c")]);
        assert_eq!(found(&index, "t", "a.b.c"), None);
        assert_eq!(found(&index, "t", "b.c").as_deref(), Some("e1"));
    }

    #[test]
    fn an_id_goes_before_anothers_name() {
        let index = with([install("t", "e1", "a", "e2"), install("t", "e2", "b", "y")]);
        assert_eq!(found(&index, "t", "e2").as_deref(), Some("e2"));
    }

    #[test]
    fn a_replaced_install_is_not_found_by_its_former_name() {
        let mut index = with([install("t", "e1", "a", "old")]);
        let before = index.put(Arc::new(install("t", "e1", "a", "new"))).unwrap();
        assert_eq!(before.version.name, "old");
        assert_eq!((found(&index, "t", "old"), index.len()), (None, 1));
        assert_eq!(found(&index, "t", "a.new").as_deref(), Some("e1"));
    }

    #[test]
    fn the_version_in_force_and_earlier_ones_are_valid_and_others_are_not() {
        let mut one = install("t", "e", "a", "b");
        let mut earlier = one.version.clone();
        earlier.content_hash = ContentHash::from_bytes([2; 32]);
        one.previous.push(earlier);
        let index = with([one]);
        let valid = |of: &str, extension: &str, byte: u8| {
            index
                .validate(&tenant(of), &extension.parse().unwrap(), ContentHash::from_bytes([byte; 32]))
                .unwrap()
        };
        assert!(valid("t", "e", 0x11) && valid("t", "e", 2));
        assert!(!valid("t", "e", 3) && !valid("u", "e", 2) && !valid("t", "f", 2));
    }

    #[test]
    fn the_first_that_claims_a_host_keeps_it_in_whatever_order_they_are_heard_of() {
        let claims = |created: &str, extension: &str, enabled: bool| Install {
            hosts: vec!["h.example".to_owned()],
            created_at: created.to_owned(),
            enabled,
            ..install("t", extension, "a", extension)
        };
        let (first, second) =
            (claims("2026-01-01T00:00:00Z", "e2", true), claims("2026-01-02T00:00:00Z", "e1", true));
        for order in [[first.clone(), second.clone()], [second.clone(), first]] {
            assert_eq!(with(order).by_host("h.example").unwrap().extension.as_str(), "e2");
        }
        let mut index = with([claims("2026-01-01T00:00:00Z", "e2", false), second]);
        assert_eq!(index.by_host("h.example"), None, "a disabled install keeps its host");
        index.remove(&tenant("t"), &"e2".parse().unwrap());
        assert_eq!(index.by_host("h.example").unwrap().extension.as_str(), "e1");
        assert_eq!(index.by_host("other.example"), None);
    }

    #[test]
    fn a_damaged_record_is_no_refusal_and_no_install() {
        let mut index = with([install("t", "e1", "a", "x"), install("t", "e2", "a", "y")]);
        index.damage(&tenant("t"), &"e1".parse().unwrap());
        for reference in ["e1", "x", "a.x", "i-t-e1"] {
            assert_eq!(index.find(&tenant("t"), reference), Err(Damaged), "{reference}");
        }
        assert_eq!(found(&index, "t", "y").as_deref(), Some("e2"));
        assert_eq!(index.count_of(&tenant("t")), 2);
        index.put(Arc::new(install("t", "e1", "a", "x")));
        assert_eq!(found(&index, "t", "x").as_deref(), Some("e1"));
        index.damage(&tenant("t"), &"e1".parse().unwrap());
        index.remove(&tenant("t"), &"e1".parse().unwrap());
        assert_eq!(found(&index, "t", "x"), None);
    }

    #[test]
    fn nothing_is_left_of_what_has_been_removed() {
        let mut one = install("t", "e", "a", "b");
        one.hosts = vec!["h".to_owned()];
        let mut index = with([one]);
        index.remove(&tenant("t"), &"e".parse().unwrap());
        assert!(index.tenants.is_empty() && index.hosts.is_empty() && index.len() == 0);
    }
}
