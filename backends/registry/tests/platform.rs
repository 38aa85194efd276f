//! The platform's registry, against the stub and its faults.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use longshore_proto::{Capability, ContentHash, ExtensionId, TenantId};
use longshore_registry::{
    Lookup, PlatformConfig, PlatformConfigError, PlatformRegistry, Registry, RegistryError,
};
use longshore_service::config::Secret;
use longshore_service::upstream::Upstream;
use longshore_stub_platform::{Fault, Options, RegistryInstall, Seed, StubPlatform};

const EXTENSION: &str = "3b8b0204-25d9-57d0-951b-3ed518145469";

fn tenant(id: &str) -> TenantId {
    id.parse().unwrap()
}

fn extension() -> ExtensionId {
    EXTENSION.parse().unwrap()
}

fn hash(byte: u8) -> ContentHash {
    ContentHash::from_bytes([byte; 32])
}

fn seed() -> Seed {
    let install = RegistryInstall {
        tenant: "t".to_owned(),
        extension: EXTENSION.to_owned(),
        slug: "Alga.hello".to_owned(),
        install_id: "install-1".to_owned(),
        version_id: "version-1".to_owned(),
        content_hash: hash(1).hex(),
        config: BTreeMap::from([("a".to_owned(), 1.into()), ("b".to_owned(), serde_json::Value::Null)]),
        providers: vec!["cap:http.fetch".to_owned(), "cap:brand.new".to_owned()],
        secret_envelope: Some(
            serde_json::json!({ "ciphertext_b64": "vault:v1:x", "algorithm": "vault-transit" }),
        ),
        hosts: vec!["app.example".to_owned()],
        ..RegistryInstall::default()
    };
    Seed { registry: vec![install], ..Seed::default() }
}

async fn start(change: impl FnOnce(&mut PlatformConfig)) -> (StubPlatform, PlatformRegistry) {
    let options = Options {
        token: Some("runner-token".to_owned()),
        api_key: Some("api-key".to_owned()),
        seed: seed(),
        ..Options::default()
    };
    let stub = StubPlatform::start(options).await.unwrap();
    // A path, as in the platform's guide: it is not used.
    let base = format!("{}/api/registry", stub.base_url()).parse().unwrap();
    let mut config = PlatformConfig::new(base, Secret::new("api-key"), Some(Secret::new("runner-token")));
    change(&mut config);
    let registry = PlatformRegistry::new(config, Upstream::new().unwrap()).unwrap();
    (stub, registry)
}

async fn found(registry: &PlatformRegistry, of: &str, reference: &str) -> bool {
    matches!(registry.find(&tenant(of), reference).await.unwrap(), Lookup::Found(_))
}

fn asked(stub: &StubPlatform, path: &str) -> usize {
    stub.requests().iter().filter(|request| request.path.contains(path)).count()
}

#[tokio::test]
async fn an_install_is_found_by_slug_id_and_install_id_and_never_for_another_tenant() {
    let (stub, registry) = start(|_| {}).await;
    for reference in ["alga.hello", "ALGA.Hello", EXTENSION, "install-1"] {
        assert!(found(&registry, "t", reference).await, "{reference}");
        assert!(!found(&registry, "u", reference).await, "{reference}");
    }
    let Lookup::Found(install) = registry.find(&tenant("t"), "alga.hello").await.unwrap() else { panic!() };
    assert_eq!((install.version.content_hash, install.extension.as_str()), (hash(1), EXTENSION));
    assert_eq!(install.config.values().map(String::as_str).collect::<Vec<_>>(), ["1", ""]);
    assert!(
        install.capabilities.has(Capability::HttpFetch) && !install.capabilities.has(Capability::StorageKv)
    );
    assert_eq!(install.secrets.as_ref().unwrap().ciphertext_b64, "vault:v1:x");
    let request = &stub.requests()[0];
    assert_eq!(request.path, "/api/internal/ext-runner/install-config");
    assert_eq!((request.header("x-runner-auth"), request.header("x-api-key")), (Some("runner-token"), None));
}

#[tokio::test]
async fn what_cannot_be_a_name_is_not_asked_for() {
    let (stub, registry) = start(|_| {}).await;
    for reference in ["", "a b", "a\r\nb", "ü", "a?b", "%2e", &"x".repeat(257)] {
        assert!(!found(&registry, "t", reference).await, "{reference:?}");
    }
    assert_eq!(registry.by_host(&"a".repeat(254)).await.unwrap(), None);
    assert!(stub.requests().is_empty());
}

#[tokio::test]
async fn a_bundle_is_confirmed_once_and_a_host_leads_to_it() {
    let (stub, registry) = start(|_| {}).await;
    for _ in 0..3 {
        assert!(registry.validate(&tenant("t"), &extension(), hash(1)).await.unwrap());
        assert_eq!(registry.by_host("app.example").await.unwrap().unwrap().content_hash, hash(1));
        assert_eq!(registry.by_host("evil.example&host=app.example").await.unwrap(), None);
    }
    assert_eq!((asked(&stub, "/validate"), asked(&stub, "/lookup-by-host")), (1, 2));
    assert!(!registry.validate(&tenant("t"), &extension(), hash(2)).await.unwrap());
    assert!(!registry.validate(&tenant("u"), &extension(), hash(1)).await.unwrap());
    let request = &stub.requests()[0];
    assert_eq!((request.header("x-api-key"), request.header("x-runner-auth")), (Some("api-key"), None));
    assert!(request.path.starts_with("/api/installs/validate?tenant=t&extension="), "{}", request.path);
    assert!(request.path.contains("hash=sha256%3A0101") && request.path.contains("&ts="), "{}", request.path);
}

#[tokio::test]
async fn no_fault_of_the_platform_is_a_refusal_or_remembered() {
    let (stub, registry) = start(|config| config.budget = Duration::from_millis(400)).await;
    let wrong_tenant = serde_json::json!({ "tenantId": "u", "installId": "i", "registryId": EXTENSION, "extensionSlug": "alga.hello",
        "contentHash": hash(1).hex() });
    let faults = [
        Fault::Hang,
        Fault::Status(500, r#"{"valid":false}"#.to_owned()),
        Fault::Status(401, r#"{"error":"unauthorized"}"#.to_owned()),
        Fault::Status(404, "<html>no such page</html>".to_owned()),
        Fault::Status(501, r#"{"code":"EE_REQUIRED"}"#.to_owned()),
        Fault::Status(200, wrong_tenant.to_string()),
        Fault::Malformed,
        Fault::Empty,
        Fault::HugeBody,
        Fault::DropConnection,
        Fault::Redirect("http://127.0.0.1:1/elsewhere".to_owned()),
    ];
    for fault in faults {
        // New names each time would not show that an error is remembered: the same ones are asked for again and again.
        for (operation, answer) in [("install-config", 0), ("validate", 1), ("lookup-by-host", 2)] {
            stub.fail_next("registry", operation, fault.clone());
            let error = match answer {
                0 => registry.find(&tenant("t"), "alga.hello").await.map(|_| ()),
                1 => registry.validate(&tenant("t"), &extension(), hash(1)).await.map(|_| ()),
                _ => registry.by_host("app.example").await.map(|_| ()),
            };
            assert!(matches!(error, Err(RegistryError::Upstream(_))), "{operation} {fault:?}: {error:?}");
        }
    }
    assert!(found(&registry, "t", "alga.hello").await);
    assert!(registry.validate(&tenant("t"), &extension(), hash(1)).await.unwrap());
    assert!(registry.by_host("app.example").await.unwrap().is_some());
}

#[tokio::test]
async fn an_install_without_a_bundle_is_damaged_and_not_absent() {
    let (stub, registry) = start(|_| {}).await;
    let bare = serde_json::json!({ "tenantId": "t", "installId": "i", "registryId": EXTENSION, "extensionSlug": "alga.hello" });
    stub.fail_next("registry", "install-config", Fault::Status(200, bare.to_string()));
    let error = registry.find(&tenant("t"), "alga.hello").await.unwrap_err();
    assert!(matches!(error, RegistryError::Damaged(_)), "{error:?}");
    assert!(found(&registry, "t", "alga.hello").await);
}

#[tokio::test]
async fn a_refusal_is_remembered_for_a_moment_only() {
    let (stub, registry) = start(|config| config.refusal = Duration::from_millis(50)).await;
    stub.fail_next(
        "registry",
        "install-config",
        Fault::Status(404, r#"{"error":"install_not_found"}"#.to_owned()),
    );
    stub.fail_next("registry", "validate", Fault::Status(200, r#"{"valid":false}"#.to_owned()));
    assert!(!found(&registry, "t", "alga.hello").await);
    assert!(!registry.validate(&tenant("t"), &extension(), hash(1)).await.unwrap());
    longshore_tests::wait::until("the refusal to be over", longshore_tests::wait::LIMIT, async || {
        let valid = registry.validate(&tenant("t"), &extension(), hash(1)).await.unwrap();
        if valid && found(&registry, "t", "alga.hello").await { Ok(()) } else { Err("still refused") }
    })
    .await;
}

#[tokio::test]
async fn equal_questions_at_the_same_time_are_one() {
    let (stub, registry) = start(|_| {}).await;
    let registry = Arc::new(registry);
    let ask = |registry: Arc<PlatformRegistry>| async move {
        found(&registry, "t", "alga.hello").await
            && registry.validate(&tenant("t"), &extension(), hash(1)).await.unwrap()
    };
    let answers = futures::future::join_all((0..50).map(|_| ask(registry.clone()))).await;
    assert!(answers.into_iter().all(|answer| answer));
    assert_eq!((asked(&stub, "install-config"), asked(&stub, "/validate")), (1, 1));
}

#[tokio::test]
async fn without_a_token_installs_cannot_be_asked_for_and_no_secret_is_printed() {
    let (stub, registry) = start(|config| config.runner_token = None).await;
    let error = registry.find(&tenant("t"), "alga.hello").await.unwrap_err();
    let text = longshore_service::errors::chain(&error).to_string();
    assert!(text.contains("RUNNER_CONFIG_API_TOKEN"), "{text}");
    assert!(stub.requests().is_empty());
    let config = |base: &str, key: &str| {
        let config = PlatformConfig::new(base.parse().unwrap(), Secret::new(key), None);
        assert!(!format!("{config:?}").contains("canary"));
        PlatformRegistry::new(config, Upstream::new().unwrap()).err()
    };
    assert_eq!(config("ftp://platform", "canary"), Some(PlatformConfigError::Address));
    assert_eq!(config("http://platform", "canary\n\u{7f}x"), Some(PlatformConfigError::ApiKey));
    assert_eq!(config("http://platform", "canary\n"), None, "a line's end in a file is no part of the key");
}
