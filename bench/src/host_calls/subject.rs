//! The guest, the call that it is run for, and what its host functions read: the same for all sides.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use longshore_proto::call::{RunContext, RunHttp};
use longshore_proto::{
    CallError, Capability, CapabilitySet, ContentHash, ExecutionId, ExtensionId, Limits, Run, TenantId, User,
};
use longshore_secrets::{KeyRing, Opener, OpenerConfig, Scope, SecretTexts, Secrets};
use longshore_storage::{Entry, PutEntry, Storage, StorageError};
use longshore_worker::engine::source::{ComponentSource, SourceComponent};
use longshore_worker::job::Job;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

const COMPONENT: &[u8] = include_bytes!("../../../tests/guests/built/callbench.wasm");

/// Of one measurement; it should take a fraction of a second.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The key of the secret and of the entry.
const KEY: &str = "api_key";
/// Of the entry.
const NAMESPACE: &str = "settings";

/// See the module.
pub struct Subject {
    folder: TempDir,
    sha256: [u8; 32],
    ring: KeyRing,
    /// The call, but for its url.
    run: Run,
    /// Host calls of one run.
    pub calls: u64,
}

impl Subject {
    /// With everything that an install may have: a user, a secret (so that events are searched for it), all rights.
    pub fn new(calls: u64) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("no temporary folder")?;
        std::fs::write(folder.path().join("guest.wasm"), COMPONENT)?;
        let ring = KeyRing::generate();
        let context = RunContext {
            request_id: Some("7f2c4f0e-5f0a-4a39-9a93-0e2b7ad6b8c1".to_owned()),
            tenant: "bench".parse().context("tenant")?,
            extension: "callbench".parse().context("extension")?,
            install_id: Some("5b9f5c8e-6f47-4b0e-8f0b-0c7a1b1f6a55".to_owned()),
            version_id: Some("v1".to_owned()),
            content_hash: ContentHash::from_bytes([7; 32]),
            config: Default::default(),
            trigger: None,
        };
        let mut texts = SecretTexts::new();
        texts.insert(KEY, "a-secret-of-thirty-two-bytes-000").context("secret")?;
        let envelope = ring.seal(&scope(&context), &texts).context("secret")?;
        let run = Run {
            context,
            http: RunHttp {
                method: "GET".to_owned(),
                url: String::new(),
                headers: Vec::new(),
                scheme: None,
                authority: None,
            },
            limits: Limits { timeout_ms: timeout_ms(), ..Limits::default() },
            capabilities: CapabilitySet::parse(Capability::ALL.iter().map(|c| c.as_str()))?,
            user: Some(User {
                user_id: "c1f3d1d8-7a53-4d53-8d0c-2c5f6a1f9d10".to_owned(),
                user_email: "dorothy@example.com".to_owned(),
                user_name: "Dorothy Gale".to_owned(),
                user_type: "internal".to_owned(),
                client_name: "Emerald City".to_owned(),
                client_id: None,
                additional_fields: Default::default(),
            }),
            secret_envelope: Some(envelope),
            egress: None,
            capture: Default::default(),
        };
        Ok(Self { folder, sha256: Sha256::digest(COMPONENT).into(), ring, run, calls })
    }

    /// Where caches may lie.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The component's bytes.
    pub fn component(&self) -> &'static [u8] {
        COMPONENT
    }

    /// What opens the secrets.
    pub fn opener(&self) -> anyhow::Result<Opener> {
        Ok(Opener::new(OpenerConfig { ring: Some(self.ring.clone()), ..OpenerConfig::default() })?)
    }

    /// The secrets, opened.
    pub async fn secrets(&self) -> anyhow::Result<Arc<Secrets>> {
        let run = &self.run;
        Ok(self.opener()?.open(&scope(&run.context), run.secret_envelope.as_ref()).await?)
    }

    /// A call whose guest calls `function`.
    pub fn job(&self, function: &str) -> Job {
        let mut run = self.run.clone();
        run.http.url = format!("/?fn={function}&n={}&namespace={NAMESPACE}&key={KEY}", self.calls);
        Job {
            execution: ExecutionId::from_bytes(rand::random()),
            attempt: 1,
            run: Arc::new(run),
            body: None,
            deadline: Instant::now() + TIMEOUT,
            cancel: CancellationToken::new(),
            player: None,
        }
    }

    /// Whether every call has given a value: refusals are another measurement.
    ///
    /// # Errors
    /// What the guest answered instead.
    pub fn check(&self, status: u16, body: Option<&[u8]>) -> anyhow::Result<()> {
        let text = String::from_utf8_lossy(body.unwrap_or_default());
        anyhow::ensure!(
            status == 200 && text == self.calls.to_string(),
            "status {status}, of {} calls {text} gave a value",
            self.calls
        );
        Ok(())
    }
}

fn timeout_ms() -> u64 {
    u64::try_from(TIMEOUT.as_millis()).unwrap_or(u64::MAX)
}

fn scope(context: &RunContext) -> Scope<'_> {
    Scope {
        tenant: &context.tenant,
        extension: &context.extension,
        install: context.install_id.as_deref(),
        version: context.version_id.as_deref(),
    }
}

/// Every bundle is the one guest.
#[async_trait::async_trait]
impl ComponentSource for Subject {
    async fn component(
        &self,
        _tenant: &TenantId,
        _extension: &ExtensionId,
        _bundle: &ContentHash,
    ) -> Result<Option<SourceComponent>, CallError> {
        let path: PathBuf = self.folder.path().join("guest.wasm");
        Ok(Some(SourceComponent { path, sha256: self.sha256, manifest: None, lease: Arc::new(()) }))
    }
}

/// A storage that has what it is asked for at hand, and can be asked for nothing else.
pub struct AtHand;

#[async_trait::async_trait]
impl Storage for AtHand {
    async fn get(
        &self,
        _scope: &longshore_storage::Scope<'_>,
        namespace: &str,
        key: &str,
    ) -> Result<Entry, StorageError> {
        let value = Bytes::from_static(br#"{"theme":"emerald","page_size":25,"beta":false}"#);
        Ok(Entry { namespace: namespace.to_owned(), key: key.to_owned(), value, revision: Some(1) })
    }

    async fn put(
        &self,
        _scope: &longshore_storage::Scope<'_>,
        _entry: &PutEntry,
    ) -> Result<Entry, StorageError> {
        Err(StorageError::Missing)
    }

    async fn delete(
        &self,
        _scope: &longshore_storage::Scope<'_>,
        _namespace: &str,
        _key: &str,
    ) -> Result<(), StorageError> {
        Err(StorageError::Missing)
    }

    async fn list(
        &self,
        _scope: &longshore_storage::Scope<'_>,
        _namespace: &str,
        _cursor: Option<&str>,
    ) -> Result<Vec<Entry>, StorageError> {
        Ok(Vec::new())
    }
}
