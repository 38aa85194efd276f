//! Everything that a call goes through, for one test.

use std::path::{Path, PathBuf};

use longshore_secrets::KeyRing;
use tempfile::TempDir;

use crate::admin::{ADMIN_TOKEN, Admin};
use crate::call::Extension;
use crate::nats::Nats;
use crate::redis::Redis;
use crate::service::Service;
use crate::store::{self, Store};

/// The prefix of the streams of debug events.
pub const STREAM_PREFIX: &str = "ext-debug:";

/// In a folder of its own: a stack's cache may be emptied by a test.
const KEY_FILE: &str = "secrets.key";

/// The servers of one test, and where its workers keep their files.
pub struct Stack {
    /// NATS.
    pub nats: Nats,
    /// Redis.
    pub redis: Redis,
    /// The bundle store.
    pub store: Store,
    cache: TempDir,
    keys: TempDir,
}

impl Stack {
    /// Starts the servers.
    pub async fn start() -> Self {
        let (nats, redis, store) = tokio::join!(Nats::start(), Redis::start(), Store::start());
        let keys = tempfile::tempdir().unwrap();
        KeyRing::generate().write_new(&keys.path().join(KEY_FILE)).unwrap();
        Self { nats, redis, store, cache: tempfile::tempdir().unwrap(), keys }
    }

    /// Starts the servers, workers with `settings`, and a shim; waits until all are ready.
    pub async fn with_workers<const N: usize>(settings: &[(&str, &str)]) -> (Self, [Service; N], Service) {
        let stack = Self::start().await;
        let workers: [_; N] = std::array::from_fn(|_| stack.worker(settings));
        let (workers, shim) = tokio::join!(futures::future::join_all(workers), stack.shim(&[]));
        let Ok(workers) = workers.try_into() else { unreachable!("one worker for each future") };
        (stack, workers, shim)
    }

    /// Starts a worker and waits until it is ready.
    pub async fn worker(&self, settings: &[(&str, &str)]) -> Service {
        let mut worker = Service::start("worker", "worker", &self.worker_settings(settings)).await;
        worker.ready().await;
        worker
    }

    /// Starts a shim and waits until it is ready: it listens for workers for three seconds.
    pub async fn shim(&self, settings: &[(&str, &str)]) -> Service {
        let mut shim = Service::start("gateway-shim", "gateway-shim", &self.shim_settings(settings)).await;
        shim.ready().await;
        shim
    }

    /// Starts the servers, the admin service, workers with `settings`, and a gateway that serves `/api/ext` and pages; waits until all are ready.
    pub async fn standalone<const N: usize>(
        workers: &[(&str, &str)],
        gateway: &[(&str, &str)],
    ) -> (Self, Admin, [Service; N], Service) {
        let stack = Self::start().await;
        // First: it makes the buckets that gateways wait for.
        let admin = stack.admin(&[]).await;
        let started: [_; N] = std::array::from_fn(|_| stack.worker(workers));
        let (workers, shim) = tokio::join!(futures::future::join_all(started), stack.gateway(gateway));
        let Ok(workers) = workers.try_into() else { unreachable!("one worker for each future") };
        (stack, admin, workers, shim)
    }

    /// Starts the admin service and waits until it is ready.
    pub async fn admin(&self, settings: &[(&str, &str)]) -> Admin {
        let mut service =
            Service::start("longshore-admin", "longshore-admin", &self.admin_settings(settings)).await;
        service.ready().await;
        Admin::new(service)
    }

    /// Starts a shim that knows the bundle store, with a cache of its own, and waits until it is ready.
    pub async fn gateway(&self, settings: &[(&str, &str)]) -> Service {
        let mut all = self.gateway_settings();
        all.retain(|(name, _)| settings.iter().all(|(other, _)| other != name));
        let all: Vec<(&str, &str)> =
            all.iter().map(|(name, value)| (*name, value.as_str())).chain(settings.iter().copied()).collect();
        self.shim(&all).await
    }

    /// What a shim is told to serve pages, beside [`Self::shim_settings`].
    pub fn gateway_settings(&self) -> Vec<(&'static str, String)> {
        let cache = self.keys.path().join(format!("pages-{}", rand::random::<u64>()));
        vec![
            ("BUNDLE_STORE_BASE", self.store.base()),
            ("S3_ACCESS_KEY", store::ACCESS_KEY.to_owned()),
            ("S3_SECRET_KEY", store::SECRET_KEY.to_owned()),
            ("EXT_CACHE_ROOT", cache.to_str().unwrap().to_owned()),
        ]
    }

    /// The environment of an admin service; `settings` win.
    pub fn admin_settings<'s>(&self, settings: &[(&'s str, &str)]) -> Vec<(&'s str, String)> {
        let own = [
            ("NATS_URL", self.nats.url()),
            ("NATS_USER", "control".to_owned()),
            ("NATS_PASSWORD", self.nats.password("control").to_owned()),
            ("BUNDLE_STORE_BASE", self.store.base()),
            ("S3_ACCESS_KEY", store::ACCESS_KEY.to_owned()),
            ("S3_SECRET_KEY", store::SECRET_KEY.to_owned()),
            ("RUNNER_DEBUG_REDIS_URL", self.redis.url()),
            ("RUNNER_DEBUG_REDIS_STREAM_PREFIX", STREAM_PREFIX.to_owned()),
            ("LONGSHORE_ADMIN_ADDR", "127.0.0.1:0".to_owned()),
            ("LONGSHORE_ADMIN_TOKEN", ADMIN_TOKEN.to_owned()),
            self.key_setting(),
        ];
        merged(own, settings)
    }

    /// The cache folder that the workers share.
    pub fn cache(&self) -> &Path {
        self.cache.path()
    }

    /// The file with the key that seals secrets between shim and workers.
    pub fn key_file(&self) -> PathBuf {
        self.keys.path().join(KEY_FILE)
    }

    fn key_setting(&self) -> (&'static str, String) {
        ("LONGSHORE_SECRETS_KEY_FILE", self.key_file().to_str().unwrap().to_owned())
    }

    /// The environment of a worker; `settings` win.
    pub fn worker_settings<'s>(&self, settings: &[(&'s str, &str)]) -> Vec<(&'s str, String)> {
        let own = [
            ("NATS_URL", self.nats.url()),
            ("NATS_USER", "worker".to_owned()),
            ("NATS_PASSWORD", self.nats.password("worker").to_owned()),
            ("BUNDLE_STORE_BASE", self.store.base()),
            ("S3_ACCESS_KEY", store::ACCESS_KEY.to_owned()),
            ("S3_SECRET_KEY", store::SECRET_KEY.to_owned()),
            ("EXT_CACHE_ROOT", self.cache.path().to_str().unwrap().to_owned()),
            ("RUNNER_DEBUG_REDIS_URL", self.redis.url()),
            ("RUNNER_DEBUG_REDIS_STREAM_PREFIX", STREAM_PREFIX.to_owned()),
            ("WORKER_HTTP_ADDR", "127.0.0.1:0".to_owned()),
            self.key_setting(),
        ];
        merged(own, settings)
    }

    /// The environment of a shim; `settings` win.
    pub fn shim_settings<'s>(&self, settings: &[(&'s str, &str)]) -> Vec<(&'s str, String)> {
        let own = [
            ("NATS_URL", self.nats.url()),
            ("NATS_USER", "shim".to_owned()),
            ("NATS_PASSWORD", self.nats.password("shim").to_owned()),
            ("LONGSHORE_HTTP_ADDR", "127.0.0.1:0".to_owned()),
            self.key_setting(),
        ];
        merged(own, settings)
    }

    /// Uploads a guest made for tests for a tenant, as an extension named after it.
    pub fn install(&self, tenant: &str, guest: &str) -> Extension {
        let hash = self.store.upload(tenant, guest, &store::bundle(guest));
        Extension { tenant: tenant.to_owned(), id: guest.to_owned(), hash }
    }

    /// Uploads an archive for a tenant.
    pub fn install_archive(&self, tenant: &str, extension: &str, archive: &[u8]) -> Extension {
        let hash = self.store.upload(tenant, extension, archive);
        Extension { tenant: tenant.to_owned(), id: extension.to_owned(), hash }
    }
}

fn merged<'s, const N: usize>(
    own: [(&'s str, String); N],
    settings: &[(&'s str, &str)],
) -> Vec<(&'s str, String)> {
    let mut all: Vec<_> =
        own.into_iter().filter(|(name, _)| settings.iter().all(|(other, _)| other != name)).collect();
    all.extend(settings.iter().map(|(name, value)| (*name, (*value).to_owned())));
    all
}
