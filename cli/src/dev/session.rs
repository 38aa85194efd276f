//! One run of `longshore dev`, from the lock to the last child.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use longshore_admin::api::{DEFAULT_WAIT_MS, Grant};
use longshore_proto::TenantId;

use super::call::{Call, GatewayCall};
use super::children::{Children, Exit};
use super::environment::Inherited;
use super::events::Events;
use super::examples::{self, EXAMPLES, Example, Installed};
use super::fleet::{self, GRACE, Member, Place, TOKEN_FILE};
use super::http_client::HttpClient;
use super::logs::Shown;
use super::options::{DevArgs, Ports};
use super::paths::DataDir;
use super::platform::Platform;
use super::programs::{Programs, SearchPath};
use super::redis::Found;
use super::report::{self, Called};
use super::s3::{ACCESS_KEY, S3Endpoint, SECRET_KEY};
use super::ui::Ui;
use super::watch::Watch;
use super::{nats, ports, redis};
use crate::fleet::AdminClient;
use crate::fleet::install::{self, Bundle, Wanted};
use crate::fleet::place::{DevFleet, FLEET_FILE, FleetArgs, Variables};
use crate::output::Output;

/// A call that waits for a compile ends by itself; this is beyond all its tries.
const CALL_LIMIT: Duration = Duration::from_secs(300);
/// A worker or shim that ran this long before it ended is started again; one that did not would only end again.
const WORTH_A_RESTART: Duration = Duration::from_secs(10);
/// Servers that keep nothing in memory end at once.
const SERVER_GRACE: Duration = Duration::from_secs(5);

/// Ports of what is called.
struct Listeners {
    shim: u16,
    admin: u16,
}

/// Everything that is running.
pub(super) struct Session {
    args: DevArgs,
    tenant: TenantId,
    inherited: Inherited,
    ui: Ui,
    shown: Shown,
    data: DataDir,
    search: SearchPath,
    programs: Programs,
    children: Children,
    members: Vec<Member>,
    store: Option<S3Endpoint>,
    platform: Platform,
    up: bool,
}

impl Session {
    /// Checks what can be checked before anything is started.
    pub(super) fn open(args: &DevArgs, ui: Ui) -> anyhow::Result<Self> {
        let inherited = Inherited::snapshot();
        let tenant = args.tenant(inherited.text("DEV_TENANT_ID"))?;
        let search = SearchPath::of_environment();
        let programs = Programs::find(args, &search)?;
        let data = DataDir::open(&args.data)?;
        let shown = Shown::default();
        let children =
            Children::new(programs.longshore.clone(), data.path("logs"), ui.clone(), shown.clone());
        Ok(Self {
            args: args.clone(),
            tenant,
            inherited,
            ui,
            shown,
            data,
            search,
            programs,
            children,
            members: Vec::new(),
            store: None,
            platform: Platform::default(),
            up: false,
        })
    }

    /// Everything has been started and the examples have answered.
    pub(super) fn is_up(&self) -> bool {
        self.up
    }

    /// There is something to stop and a log to look at.
    pub(super) fn has_started(&self) -> bool {
        self.children.any()
    }

    /// The folder of the log files, as the user would type it.
    pub(super) fn logs(&self) -> PathBuf {
        self.data.shown("logs")
    }

    /// Starts everything, calls the examples, prints; then ends (`--once`) or goes on until a child fails for good.
    pub(super) async fn work(&mut self) -> anyhow::Result<()> {
        let auto = self.args.ports == Ports::Auto;
        let fixed = |port| if auto { 0 } else { port };
        // Ports that callers know by number come first: a conflict should cost nothing.
        let store =
            ports::bind("the bundle store", fixed(self.args.s3_port), "--s3-port", "LONGSHORE_DEV_S3_PORT")
                .await?;
        let shim_port = if auto {
            ports::any().await?
        } else {
            let free = ports::bind("the shim", self.args.port, "--port", "RUNNER_DOCKER_PORT").await?;
            free.local_addr().context("a listener has no address")?.port()
        };
        if !self.args.once {
            self.shown.warnings();
        }

        self.ui.line("Starting");
        let nats_port = self.start_nats(auto).await?;
        let redis_port = self.start_redis(auto).await?;
        let endpoint = S3Endpoint::start(store, &self.data.path("s3"))?;
        let store_base = endpoint.base();
        self.ui.item("bundle store", format!("{store_base} ({ACCESS_KEY} / {SECRET_KEY})"));
        self.store = Some(endpoint);
        self.platform = Platform::start(self.args.seed.as_deref(), &self.inherited, &self.ui).await?;
        let admin_port =
            if auto { ports::any().await? } else { ports::next_free(self.args.admin_port).await? };
        let listeners = Listeners { shim: shim_port, admin: admin_port };
        self.start_fleet(&nats_port, redis_port, store_base.clone(), &listeners).await?;
        let base = format!("http://127.0.0.1:{shim_port}");
        self.data.announce(&base);
        let fleet = DevFleet {
            process: std::process::id(),
            admin_url: format!("http://127.0.0.1:{admin_port}"),
            gateway_url: base.clone(),
            tenant: self.tenant.to_string(),
            store: store_base,
            redis_url: format!("redis://127.0.0.1:{redis_port}"),
            nats_url: format!("nats://127.0.0.1:{}", nats_port.port),
        };
        self.data.write(FLEET_FILE, &serde_json::to_vec_pretty(&fleet)?)?;
        let client = self.client()?;

        self.ui.line("Installing and calling the examples");
        let installed = self.install(&client).await?;
        anyhow::ensure!(
            !installed.is_empty() || !self.args.once,
            "no example was found in {}: run this in the repository, or name the folder by --examples",
            self.args.examples.display()
        );
        let (mut called, mut pages) = (Vec::new(), Vec::new());
        for to in installed {
            if to.has_ui {
                pages.push((to.name.clone(), format!("{base}/msp/extensions/{}/", to.extension)));
            }
            if let Some(path) = to.path {
                called.push(self.call(&base, to, path, redis_port).await?);
            }
        }
        report::print(&self.ui, &self.data, &called, redis_port, &self.tenant);
        self.ui.line("\nPages:");
        for (name, url) in &pages {
            self.ui.item(name, url);
        }
        self.up = true;
        if self.args.once {
            return Ok(());
        }
        self.ui.line(format!("\nLongshore answers on {base}. Ctrl-C ends everything.\n"));
        self.shown.everything();
        if self.args.watch.is_empty() {
            return self.keep_running().await;
        }
        let watch = Watch {
            client,
            tenant: self.tenant.clone(),
            dirs: self.args.watch.clone(),
            redis_url: fleet.redis_url,
            ui: self.ui.clone(),
        };
        tokio::select! {
            ended = self.keep_running() => ended,
            ended = watch.run() => ended,
        }
    }

    /// The admin service of this session, found as any command finds it.
    fn client(&self) -> anyhow::Result<AdminClient> {
        let data = Variables { dev_data: Some(self.data.path("")), ..Variables::default() };
        let place = crate::fleet::Place::find_in(&FleetArgs::default(), &data, &self.data.path(""))?;
        Ok(AdminClient::at(place)?)
    }

    async fn start_nats(&mut self, auto: bool) -> anyhow::Result<nats::Nats> {
        let step = self.ui.step("nats-server", "starting");
        let env = self.inherited.common();
        let wished = (!auto).then_some(self.args.nats_port);
        let wish = nats::Wish { program: &self.programs.nats.path, port: wished, env: &env };
        let nats = nats::start(&mut self.children, &self.data, wish).await?;
        let why = match wished {
            Some(wished) if wished != nats.port => format!(" ({wished} is in use)"),
            _ => String::new(),
        };
        step.done(format!("{} on 127.0.0.1:{}{why}", self.programs.nats.version, nats.port));
        Ok(nats)
    }

    async fn start_redis(&mut self, auto: bool) -> anyhow::Result<u16> {
        let wished = self.args.redis_port;
        let mut why = String::new();
        if !auto {
            match redis::probe(wished).await {
                Found::Redis => {
                    self.ui
                        .item("redis", format!("on 127.0.0.1:{wished}: one was there already and is used"));
                    return Ok(wished);
                }
                Found::Locked => why = format!(" ({wished} holds a Redis that asks for a password)"),
                Found::Other => why = format!(" ({wished} is in use)"),
                Found::Nobody => {}
            }
        }
        let step = self.ui.step("redis", "starting");
        let program = Programs::redis(&self.args, &self.search)?;
        let env = self.inherited.common();
        let wished = (!auto).then_some(wished);
        let port = redis::start(&mut self.children, &self.data, program.path, wished, &env).await?;
        step.done(format!("{} on 127.0.0.1:{port}{why}", program.version));
        Ok(port)
    }

    async fn start_fleet(
        &mut self,
        nats: &nats::Nats,
        redis_port: u16,
        store_base: String,
        listeners: &Listeners,
    ) -> anyhow::Result<()> {
        let place = Place {
            nats,
            redis_port,
            store_base,
            data: &self.data,
            inherited: &self.inherited,
            platform: &self.platform,
            tenant: &self.tenant,
            ui_url: self.args.ui_url.as_deref(),
        };
        place.say_overruled(&self.ui);
        place.make_key()?;
        let step = self.ui.long_step("fleet", "starting");
        // The admin service first: it makes the buckets that gateways wait for.
        let mut members = vec![place.admin(&self.programs, listeners.admin)?];
        for number in 1..=self.args.workers {
            members.push(place.worker(&self.programs, number).await?);
        }
        members.push(place.shim(&self.programs, listeners.shim));
        for member in &members {
            self.children.start(&member.spec)?;
        }
        fleet::ready(&mut self.children, &members, &HttpClient::new()).await?;
        self.members = members;
        let Listeners { shim, admin } = listeners;
        step.done(format!(
            "{} workers, gateway-shim on http://127.0.0.1:{shim}, longshore-admin on http://127.0.0.1:{admin}",
            self.args.workers
        ));
        self.ui.item(
            "note",
            format!("calls from this machine without a token are taken for tenant {}", self.tenant),
        );
        Ok(())
    }

    /// Packs the examples that have been built and installs them, with all that they ask for.
    async fn install(&mut self, client: &AdminClient) -> anyhow::Result<Vec<Installed>> {
        let mut installed = Vec::new();
        for example in &EXAMPLES {
            let dir = self.args.examples.join(example.name);
            if !dir.is_dir() {
                self.ui.item(example.name, format!("left out: there is no {}", dir.display()));
                continue;
            }
            installed.extend(self.install_one(client, example, dir).await?);
        }
        Ok(installed)
    }

    async fn install_one(
        &mut self,
        client: &AdminClient,
        example: &Example,
        dir: PathBuf,
    ) -> anyhow::Result<Option<Installed>> {
        let step = self.ui.long_step(example.name, "packing and installing");
        let packing = tokio::task::spawn_blocking(move || examples::pack(&dir));
        let Some(bytes) = packing.await.context("packing ended")?? else {
            step.done("left out: it has not been built (`make run` builds it where Node >= 20 is installed)");
            return Ok(None);
        };
        let size = bytes.len();
        let wanted = Wanted { grant: Some(Grant::ALL), wait_ms: DEFAULT_WAIT_MS, ..Wanted::default() };
        let bundle = Bundle { bytes, signature: None };
        let (tenant, output) = (self.tenant.clone(), Output::new(false));
        let installing =
            async { Ok(install::upload_and_install(client, &tenant, bundle, &wanted, &output).await?) };
        let response = self.children.while_running(CALL_LIMIT, installing).await;
        let response = response.map_err(|error| error.about(&format!("installing {}", example.name)))?;
        let installed = Installed::of(example, &response.install)?;
        let granted = match installed.capabilities.as_slice() {
            [] => "nothing".to_owned(),
            some => some.join(", "),
        };
        step.done(format!("installed {} ({} KiB); granted {granted}", installed.hash, size / 1024));
        Ok(Some(installed))
    }

    async fn call(
        &mut self,
        base: &str,
        to: Installed,
        path: &str,
        redis_port: u16,
    ) -> anyhow::Result<Called> {
        let call = Call::get(base, &self.tenant, &to, path, self.inherited.text("RUNNER_SERVICE_TOKEN"))?;
        let through = GatewayCall::get(base, &to, path);
        self.data.write(&format!("{}.json", to.name), &call.json)?;
        let step = self.ui.long_step(&to.name, "calling");
        let http = HttpClient::new();
        let making = async {
            let mut events = Events::from_now(redis_port).await?;
            let answer = call.make(&http, &step).await?;
            anyhow::ensure!(answer.status == 200, "it answered {} {}", answer.status, answer.body);
            let events = events.of_call(&call.request_id).await?;
            let gateway = through.make(&http).await?;
            Ok((answer, events, gateway))
        };
        let made = self.children.while_running(CALL_LIMIT, making).await;
        let (answer, events, gateway) =
            made.map_err(|error| error.about(&format!("the call to {}", to.name)))?;
        let called = Called { to, call, answer, events, gateway: (through, gateway) };
        step.done(called.line());
        Ok(called)
    }

    /// Starts again what ends after having run well; gives up where that does not help.
    async fn keep_running(&mut self) -> anyhow::Result<()> {
        loop {
            let exit: Exit = self.children.next_exit().await;
            let member = self.members.iter().find(|member| member.spec.name == exit.name);
            match member {
                Some(member) if exit.ran >= WORTH_A_RESTART => {
                    self.ui.line(format!("{exit}\nstarting {} again", exit.name));
                    self.children.start(&member.spec)?;
                }
                _ => anyhow::bail!("{exit}"),
            }
        }
    }

    /// Ends everything in order: no new calls, running ones finish, then what they need.
    pub(super) async fn stop(&mut self) {
        self.shown.nothing();
        // Nobody is led to what is ending.
        self.data.forget(FLEET_FILE);
        self.data.forget(TOKEN_FILE);
        let step = self.ui.long_step("stopping", "shim, admin, workers, redis, nats");
        let mut killed = Vec::new();
        for (prefixes, grace) in [
            (&["shim", "admin"][..], GRACE + Duration::from_secs(2)),
            (&["worker-"][..], GRACE + Duration::from_secs(5)),
            (&["redis", "nats"][..], SERVER_GRACE),
        ] {
            killed.extend(self.children.stop(prefixes, grace).await);
        }
        self.store = None;
        self.platform = Platform::default();
        if killed.is_empty() {
            step.done("everything has ended");
        } else {
            step.done(format!("killed, because they did not end in time: {}", killed.join(", ")));
        }
    }
}
