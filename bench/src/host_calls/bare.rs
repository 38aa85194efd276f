//! The floor of a host call: wasmtime, and the body of the function. No gate, no budget, no span, no metric, no event.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use anyhow::Context as _;
use longshore_proto::Run;
use longshore_secrets::Secrets;
use longshore_storage::{Scope, Storage};
use longshore_worker::engine::config::EngineConfig;
use longshore_worker::engine::meter::Meter;
use longshore_worker::engine::runtime::Runtime;
use longshore_worker::host::bindings::RunnerPre;
use longshore_worker::host::bindings::alga::extension::types::{
    ContextData, ExecuteRequest, HttpRequest, SecretError, StorageEntry, StorageError, UserData, UserError,
};
use wasmtime::component::{Component, Linker};
use wasmtime::{Store, StoreContextMut, UpdateDeadline};

use super::Round;
use super::subject::{AtHand, Subject};

/// What the functions read.
struct State {
    run: Arc<Run>,
    secrets: Arc<Secrets>,
    storage: Arc<dyn Storage>,
}

/// See the module.
pub struct Bare {
    runtime: Runtime,
    pre: RunnerPre<State>,
    subject: Arc<Subject>,
}

impl Bare {
    /// Compiles the guest in an engine with the worker's settings and links it with the bare functions.
    pub fn new(subject: Arc<Subject>) -> anyhow::Result<Self> {
        let runtime = Runtime::new(&EngineConfig { slots: 1, ..EngineConfig::new(subject.folder()) })?;
        let engine = runtime.engine();
        let component = Component::new(engine, subject.component()).map_err(anyhow::Error::from)?;
        let mut linker = Linker::new(engine);
        functions(&mut linker)?;
        linker.define_unknown_imports_as_traps(&component)?;
        let pre = RunnerPre::new(linker.instantiate_pre(&component)?)?;
        Ok(Self { runtime, pre, subject })
    }

    /// One measurement, from the same moments and by the same clocks as those of the executor.
    pub async fn run(&self, function: &str) -> anyhow::Result<Round> {
        let job = self.subject.job(function);
        let meter = Arc::new(Meter::new(job.deadline, job.cancel.clone(), None));
        let secrets = self.subject.secrets().await?;
        let state = State { run: Arc::clone(&job.run), secrets, storage: Arc::new(AtHand) };
        let request = ExecuteRequest {
            context: state.context(),
            http: HttpRequest {
                method: job.run.http.method.clone(),
                url: job.run.http.url.clone(),
                headers: Vec::new(),
                body: None,
            },
        };
        let mut store = Store::new(self.runtime.engine(), state);
        store.set_epoch_deadline(1);
        let ticks = Arc::clone(&meter);
        store.epoch_deadline_callback(move |_| match ticks.broken(true) {
            Some(stop) => Err(stop.into()),
            None => Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now()))),
        });
        let called = async {
            let runner = self.pre.instantiate_async(&mut store).await?;
            let began = Instant::now();
            let answer = runner.call_handler(&mut store, &request).await?;
            Ok::<_, wasmtime::Error>((answer, began))
        };
        let (answer, began) = Arc::clone(&meter).run(called).await.context("the run was ended")??;
        drop(store);
        let took = began.elapsed();
        self.subject.check(answer.status, answer.body.as_deref())?;
        let calls = self.subject.calls as f64;
        Ok(Round { ns: took.as_nanos() as f64 / calls, cpu_ns: meter.cpu_us() as f64 * 1e3 / calls })
    }
}

/// The bodies are those of `worker/src/host`, copied: there is no way to call them without what is measured here.
fn functions(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker
        .instance("alga:extension/context")?
        .func_wrap_async("get-context", |store: StoreContextMut<'_, State>, (): ()| {
            Box::new(async move { Ok((store.data().context(),)) })
        })?;
    linker
        .instance("alga:extension/user")?
        .func_wrap_async("get-user", |store: StoreContextMut<'_, State>, (): ()| {
            Box::new(async move { Ok((store.data().user(),)) })
        })?;
    linker.instance("alga:extension/secrets")?.func_wrap_async(
        "get",
        |store: StoreContextMut<'_, State>, (key,): (String,)| {
            Box::new(async move { Ok((store.data().secret(&key),)) })
        },
    )?;
    linker.instance("alga:extension/storage")?.func_wrap_async(
        "get",
        |store: StoreContextMut<'_, State>, (namespace, key): (String, String)| {
            let (run, storage) = (Arc::clone(&store.data().run), Arc::clone(&store.data().storage));
            Box::new(async move {
                let context = &run.context;
                let install = context.install_id.as_deref().unwrap_or_default();
                let scope =
                    Scope { tenant: &context.tenant, install, request_id: context.request_id.as_deref() };
                let entry = storage.get(&scope, &namespace, &key).await;
                let entry = entry.map_err(|_| StorageError::Internal).map(|entry| StorageEntry {
                    namespace: entry.namespace,
                    key: entry.key,
                    value: entry.value.into(),
                    revision: entry.revision,
                });
                Ok((entry,))
            })
        },
    )
}

impl State {
    fn context(&self) -> ContextData {
        let context = &self.run.context;
        ContextData {
            request_id: context.request_id.clone(),
            tenant_id: context.tenant.to_string(),
            extension_id: context.extension.to_string(),
            install_id: context.install_id.clone(),
            version_id: context.version_id.clone(),
        }
    }

    fn user(&self) -> Result<UserData, UserError> {
        let user = self.run.user.clone().ok_or(UserError::NotAvailable)?;
        Ok(UserData {
            tenant_id: self.run.context.tenant.to_string(),
            client_name: user.client_name,
            user_id: user.user_id,
            user_email: user.user_email,
            user_name: user.user_name,
            user_type: user.user_type,
        })
    }

    fn secret(&self, name: &str) -> Result<String, SecretError> {
        let secret = self.secrets.get(name).ok_or(SecretError::Missing)?;
        if self.secrets.is_expired(SystemTime::now()) {
            return Err(SecretError::Expired);
        }
        Ok(secret.for_guest().to_owned())
    }
}
