//! A real nats-server, with the rights that workers and gateways have in production.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use longshore_proto::PoolName;
use longshore_schedules::scheduler::{self, Fired, Job, Observer, Runner, SchedulerConfig};
use longshore_schedules::{NatsSchedules, Record, StandaloneConfig};
use longshore_service::config::NatsConfig;
use longshore_service::nats::{self, Options, Watcher};
use longshore_tests::nats::Nats;
use longshore_tests::wait;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub async fn connect(server: &Nats, user: &str) -> (async_nats::Client, Watcher) {
    let env = BTreeMap::from([
        ("NATS_URL".to_owned(), server.url()),
        ("NATS_USER".to_owned(), user.to_owned()),
        ("NATS_PASSWORD".to_owned(), server.password(user).to_owned()),
    ]);
    let config = NatsConfig::load(&env, ["test".to_owned()]).unwrap();
    let options = Options { inbox_prefix: Some(format!("_R.{user}.js")), ..Options::default() };
    let (client, mut link) = nats::connect("test", &config, options).await.unwrap();
    wait::within("a connection", wait::LIMIT, link.connected(1)).await.unwrap();
    (client, link)
}

/// What a worker has.
pub async fn worker(server: &Nats, min_interval: Duration) -> NatsSchedules {
    let (client, link) = connect(server, "worker").await;
    NatsSchedules::new(client, link, StandaloneConfig { min_interval, pool: PoolName::default() })
}

/// A gateway's scheduler and what it does.
pub struct Gateway {
    pub jobs: mpsc::UnboundedReceiver<(Job, tokio::sync::oneshot::Sender<Result<(), String>>)>,
    pub fired: mpsc::UnboundedReceiver<Fired>,
    pub leads: tokio::sync::watch::Receiver<bool>,
    pub drain: CancellationToken,
    pub task: JoinHandle<()>,
}

struct Asked(mpsc::UnboundedSender<(Job, tokio::sync::oneshot::Sender<Result<(), String>>)>);

#[async_trait]
impl Runner for Asked {
    async fn run(&self, job: Job) -> Result<(), String> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        self.0.send((job, answer)).ok();
        answered.await.unwrap_or_else(|_| Err("nobody answered".to_owned()))
    }
}

struct Told {
    fired: mpsc::UnboundedSender<Fired>,
    leads: tokio::sync::watch::Sender<bool>,
}

impl Observer for Told {
    fn fired(&self, outcome: Fired) {
        self.fired.send(outcome).ok();
    }
    fn leads(&self, leads: bool) {
        self.leads.send_replace(leads);
    }
}

impl Gateway {
    pub async fn start(server: &Nats, name: &str) -> Self {
        let (client, link) = connect(server, "shim").await;
        let (asked, jobs) = mpsc::unbounded_channel();
        let (told, fired) = mpsc::unbounded_channel();
        let (leading, leads) = tokio::sync::watch::channel(false);
        let (drain, force) = (CancellationToken::new(), CancellationToken::new());
        let config = SchedulerConfig { name: name.to_owned(), max_runs: 8 };
        let observer = Told { fired: told, leads: leading };
        let task = tokio::spawn(scheduler::serve(
            client,
            link,
            config,
            Asked(asked),
            observer,
            drain.clone(),
            force,
        ));
        Self { jobs, fired, leads, drain, task }
    }

    pub async fn leads(&mut self) {
        wait::within("a gateway that fires", wait::LIMIT, self.leads.wait_for(|leads| *leads)).await.unwrap();
    }

    pub async fn job(&mut self) -> (Job, tokio::sync::oneshot::Sender<Result<(), String>>) {
        wait::within("a run", wait::LIMIT, self.jobs.recv()).await.unwrap()
    }

    pub async fn outcome(&mut self) -> Fired {
        wait::within("an outcome", wait::LIMIT, self.fired.recv()).await.unwrap()
    }

    pub async fn leave(self) {
        self.drain.cancel();
        wait::within("the gateway's end", wait::LIMIT, self.task).await.unwrap();
    }
}

/// An operator's hand in the bucket: the record at `id` of any install, changed.
pub async fn meddle(server: &Nats, id: &str, change: impl FnOnce(&mut Record)) {
    let admin = server.client("admin").await;
    let js = async_nats::jetstream::new(admin.client.clone());
    let store = js.get_key_value("longshore-schedules").await.unwrap();
    let mut keys = store.keys().await.unwrap();
    let mut found = None;
    while let Some(key) = futures::StreamExt::next(&mut keys).await {
        let key = key.unwrap();
        if key.ends_with(id) {
            found = Some(key);
        }
    }
    let key = found.unwrap();
    let mut record: Record = serde_json::from_slice(&store.get(&key).await.unwrap().unwrap()).unwrap();
    change(&mut record);
    store.put(&key, serde_json::to_vec(&record).unwrap().into()).await.unwrap();
}
