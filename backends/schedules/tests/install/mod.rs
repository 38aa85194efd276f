//! Installs that ask.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_proto::manifest::Endpoint;
use longshore_proto::{Limits, Run, RunContext, RunHttp};
use longshore_schedules::{NewSchedule, Scope};

pub struct Install {
    pub run: Arc<Run>,
    pub install: String,
    pub endpoints: Vec<Endpoint>,
}

impl Install {
    pub fn new(tenant: &str, install: &str) -> Self {
        let endpoint = |method: &str, path: &str| Endpoint {
            idempotent: false,
            method: method.into(),
            path: path.into(),
            handler: "dist/main".into(),
        };
        let run = Run {
            context: RunContext {
                request_id: Some("r".into()),
                tenant: tenant.parse().unwrap(),
                extension: "e".parse().unwrap(),
                install_id: Some(install.into()),
                version_id: Some("v1".into()),
                content_hash: "ab".repeat(32).parse().unwrap(),
                config: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
                trigger: None,
            },
            http: RunHttp {
                method: "POST".into(),
                url: "/x".into(),
                headers: vec![("authorization".into(), "canary-1".into())],
                scheme: None,
                authority: None,
            },
            limits: Limits::default(),
            capabilities: Default::default(),
            user: None,
            secret_envelope: None,
            egress: None,
            capture: Default::default(),
        };
        let endpoints = vec![endpoint("POST", "/sync"), endpoint("GET", "/look"), endpoint("PUT", "/put")];
        Self { run: Arc::new(run), install: install.to_owned(), endpoints }
    }

    pub fn scope(&self) -> Scope<'_> {
        Scope { run: &self.run, install: &self.install, endpoints: &self.endpoints }
    }
}

pub fn hourly() -> NewSchedule {
    NewSchedule { endpoint: "/sync".into(), cron: "0 * * * *".into(), ..NewSchedule::default() }
}
