//! The host page of development: what the existing platform's application does around an extension's pages, small enough to be read.
//!
//! - `GET /msp/extensions/` and `/msp/extensions/{id}/`: a menu of the development tenant's extensions that have pages (labels from
//!   `ui.hooks.appMenu.label`), and the extension in a sandboxed frame.
//! - The messages of the platform's iframe SDK between the page and the frame (`page/host.js`): `ready`, `resize`, `navigate`, `apiproxy`
//!   from the extension, `bootstrap` and `apiproxy_response` to it.
//! - `ANY /api/ext-proxy/{id}/{path}`: where `apiproxy` leads; the gateway's own route behind it.
//!
//! Only with `LONGSHORE_DEV_TENANT`, and only for this machine ([`crate::gateway::loopback`]): whoever gets through is that tenant. The
//! frame has no `allow-same-origin`, so an extension cannot reach any of this by itself although it comes from the same origin: its
//! requests say `origin: null`. (Opened in a tab of its own it could; development trusts what the developer opens.)

mod config;
mod page;
mod proxy;

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use longshore_proto::TenantId;
use longshore_proto::install::Install;
use longshore_registry::{NatsRegistry, Registry, RegistryError};
use url::Url;

use crate::gateway::loopback;

pub use config::DevHostSettings;

/// Extensions in the menu.
const MENU: usize = 200;

/// The installs of a tenant: a registry that is asked one by one cannot list them.
#[async_trait]
pub trait Menu: Send + Sync + 'static {
    /// All of them, the first [`MENU`] at least.
    async fn installs(&self, tenant: &TenantId) -> Result<Vec<Arc<Install>>, RegistryError>;
}

#[async_trait]
impl Menu for NatsRegistry {
    async fn installs(&self, tenant: &TenantId) -> Result<Vec<Arc<Install>>, RegistryError> {
        self.list(Some(tenant), None, MENU).map(|page| page.installs)
    }
}

/// What the host page is made of.
pub struct DevHost {
    /// Whose extensions are shown and called.
    pub tenant: TenantId,
    /// Looks them up.
    pub registry: Arc<dyn Registry>,
    /// Lists them.
    pub menu: Arc<dyn Menu>,
    /// The gateway's `/api/ext` routes, which take calls of this machine for the same tenant without a token.
    pub api: Router,
    /// Where the frame points instead of the installed pages: a development server of the extension's author.
    pub ui_url: Option<Url>,
}

/// The routes, to be merged with the gateway's others.
pub fn router(host: DevHost) -> Router {
    let host = Arc::new(host);
    Router::new()
        .route("/msp/extensions", get(page::index))
        .route("/msp/extensions/", get(page::index))
        .route("/msp/extensions/{id}", get(page::extension))
        .route("/msp/extensions/{id}/", get(page::extension))
        .route("/msp/extensions/{id}/{*path}", get(page::extension))
        .route("/msp/state/{id}", get(page::state))
        .route("/api/ext-proxy/{id}", any(proxy::call))
        .route("/api/ext-proxy/{id}/", any(proxy::call))
        .route("/api/ext-proxy/{id}/{*path}", any(proxy::call))
        .layer(middleware::from_fn(guard))
        .with_state(host)
}

/// Refuses everybody but the developer's own machine and this origin's pages.
async fn guard(request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    if !loopback::permits(&head) {
        let text = "the development pages are for this machine alone: open them as http://localhost or http://127.0.0.1";
        return words(StatusCode::FORBIDDEN, text);
    }
    next.run(Request::from_parts(head, body)).await
}

fn words(status: StatusCode, text: impl Into<String>) -> Response {
    no_store((status, text.into()).into_response())
}

fn no_store(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn json(value: &serde_json::Value) -> Response {
    no_store(([(CONTENT_TYPE, "application/json")], value.to_string()).into_response())
}

/// The state of all handlers.
type Host = State<Arc<DevHost>>;
