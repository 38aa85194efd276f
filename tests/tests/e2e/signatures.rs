//! Bundles that somebody has signed, and those whose signature does not count.

use longshore_bundle::BundleKey;
use longshore_bundle::archive::content_hash;
use longshore_bundle::signature::{Identity, SigningKey};
use longshore_tests::{Admin, Caller, Service, Stack, store, wait};
use serde_json::{Value, json};

const NAME: &str = "com.longshore.test.echo";

struct Author {
    key: SigningKey,
    folder: tempfile::TempDir,
}

impl Author {
    fn new() -> Self {
        let author = Self { key: SigningKey::generate().unwrap(), folder: tempfile::tempdir().unwrap() };
        author.trust("");
        author
    }

    fn file(&self) -> String {
        self.folder.path().join("trust.pem").to_str().unwrap().to_owned()
    }

    /// Writes the trust bundle with these rules for the key, as an operator's tool would: whole or not at all.
    fn trust(&self, rules: &str) {
        let text = format!("Key-Id: release\n{rules}{}", self.key.public().to_pem());
        let beside = self.folder.path().join("new");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(beside, self.file()).unwrap();
    }

    /// `bundle.sig`.
    fn sign(&self, archive: &[u8], version: &str) -> String {
        let identity = Identity::new("Longshore", NAME, version).unwrap();
        let at = std::time::SystemTime::now().into();
        self.key.sign("release".parse().unwrap(), content_hash(archive), identity, at).to_json()
    }
}

fn echo(version: &str) -> Vec<u8> {
    store::extension("echo", "echo", version, &[], &["GET /"])
}

async fn request(admin: &Admin, archive: &[u8]) -> (u16, Value) {
    let uploaded = admin.upload("tenant-1", archive).await;
    let body = json!({ "content_hash": uploaded["content_hash"], "extension": uploaded["extension"], "grant": "all" });
    admin.send("POST", "/v1/tenants/tenant-1/installs", "application/json", body.to_string()).await
}

async fn fleet<const N: usize>(settings: &[(&str, &str)]) -> (Stack, Admin, [Service; N], Service) {
    let stack = Stack::start().await;
    let admin = stack.admin(settings).await;
    let workers = futures::future::join_all([(); N].map(|()| stack.worker(settings)));
    let (workers, gateway) = tokio::join!(workers, stack.gateway(&[]));
    let Ok(workers) = workers.try_into() else { unreachable!("one worker for each future") };
    (stack, admin, workers, gateway)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_that_requires_signatures_runs_what_is_signed_until_the_key_is_revoked() {
    let author = Author::new();
    let file = author.file();
    let settings = [("SIGNING_TRUST_BUNDLE", file.as_str()), ("LONGSHORE_SIGNATURE_POLICY", "require")];
    let (_stack, admin, workers, gateway) = fleet::<2>(&settings).await;
    let archive = echo("1.0.0");
    let (status, refused) = request(&admin, &archive).await;
    assert_eq!((status, &refused["code"]), (409, &json!("signature_refused")), "{refused}");

    let uploaded = admin.upload("tenant-1", &archive).await;
    let extension = uploaded["extension"].as_str().unwrap();
    let hash = uploaded["content_hash"].as_str().unwrap();
    let at = format!("/v1/tenants/tenant-1/extensions/{extension}/bundles/{hash}/signature");
    let put = async |signature: String| admin.send("PUT", &at, "application/json", signature).await;
    let (status, refused) = put(author.sign(b"other", "1.0.0")).await;
    assert_eq!((status, &refused["code"]), (409, &json!("signature_refused")), "{refused}");
    // Of another version, and by a stranger under the same name: they may be stored, and do not count.
    for forged in [author.sign(&archive, "2.0.0"), Author::new().sign(&archive, "1.0.0")] {
        let (status, stored) = put(forged).await;
        assert!(status == 409 || stored["signature"]["state"] == "refused", "{status} {stored}");
        let (status, refused) = request(&admin, &archive).await;
        assert_eq!((status, &refused["code"]), (409, &json!("signature_refused")), "{refused}");
    }
    let (status, stored) = put(author.sign(&archive, "1.0.0")).await;
    assert_eq!(status, 200, "{stored}");
    let (status, installed) = request(&admin, &archive).await;
    assert!(status == 201 && installed["warm"]["complete"] == true, "{installed}");
    let caller = Caller::new(&gateway, admin.token("tenant-1", "read").await).await;
    for _ in 0..10 {
        assert_eq!(caller.get(NAME).await.transport, 200);
    }

    // Loaded and compiled as it is, it runs nowhere any more.
    author.trust("Revoked: yes\n");
    wait::until("ten refusals in a row", wait::LIMIT, async || {
        for _ in 0..10 {
            let reply = caller.get(NAME).await;
            if reply.transport != 502 {
                return Err(format!("{reply:?}"));
            }
            let (_, code) = reply.refusal();
            assert!(code.contains("signature_refused"), "{code}");
        }
        Ok(())
    })
    .await;
    for worker in &workers {
        assert!(!worker.lines().with("trust bundle read again").is_empty(), "each worker has read the keys");
    }
    // It looks at the file as often as they do.
    wait::until("the admin service's refusal", wait::LIMIT, async || {
        let (status, refused) = request(&admin, &archive).await;
        if (status, &refused["code"]) == (409, &json!("signature_refused")) {
            Ok(())
        } else {
            Err(refused.to_string())
        }
    })
    .await;

    author.trust("");
    wait::until("a call with the key that counts again", wait::LIMIT, async || {
        let reply = caller.get(NAME).await;
        if reply.transport == 200 { Ok(()) } else { Err(format!("{reply:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_in_the_store_that_was_swapped_is_refused_by_a_worker_that_did_not_see_the_install() {
    let author = Author::new();
    let file = author.file();
    let require = [("SIGNING_TRUST_BUNDLE", file.as_str()), ("LONGSHORE_SIGNATURE_POLICY", "require")];
    let stack = Stack::start().await;
    // An admin service that looks at nothing, as one with other settings would be.
    let admin = stack.admin(&[]).await;
    let (worker, gateway) = tokio::join!(stack.worker(&require), stack.gateway(&[]));
    let (status, installed) = request(&admin, &echo("1.0.0")).await;
    assert_eq!((status, &installed["warm"]["complete"]), (201, &json!(false)), "{installed}");
    let caller = Caller::new(&gateway, admin.token("tenant-1", "read").await).await;
    let (status, code) = caller.get(NAME).await.refusal();
    assert!(status == 502 && code.contains("signature_refused"), "{status} {code}");
    assert!(!worker.lines().with("bundle refused by the signature policy").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_that_warns_runs_what_is_unsigned_and_says_so_once() {
    let author = Author::new();
    let file = author.file();
    let settings = [("SIGNING_TRUST_BUNDLE", file.as_str()), ("LONGSHORE_SIGNATURE_POLICY", "warn")];
    let (_stack, admin, [worker], gateway) = fleet::<1>(&settings).await;
    let archive = echo("1.0.0");
    let (status, installed) = request(&admin, &archive).await;
    assert_eq!(status, 201, "{installed}");
    let warnings = installed["warnings"].to_string();
    assert!(warnings.contains("sign"), "{warnings}");
    let caller = Caller::new(&gateway, admin.token("tenant-1", "read").await).await;
    for _ in 0..5 {
        assert_eq!(caller.get(NAME).await.transport, 200);
    }
    let key = BundleKey {
        tenant: "tenant-1".parse().unwrap(),
        extension: installed["install"]["extension"].as_str().unwrap().parse().unwrap(),
        hash: content_hash(&archive),
    };
    let said = worker.lines().with(&key.hash.hex());
    let warned = said.iter().filter(|line| line.contains("\"WARN\"") && line.contains("signature")).count();
    assert_eq!(warned, 1, "{said:#?}");
}
