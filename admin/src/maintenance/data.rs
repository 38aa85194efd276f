//! What installs leave in NATS: schedules, storage, hints of pages. Removed by subject, in one request each, however much it is.

use std::collections::BTreeSet;
use std::time::Duration;

use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::{self, Context, ErrorCode};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use longshore_proto::TenantId;
use longshore_proto::install::Install;
use longshore_service::nats::Watcher;
use longshore_service::nats::buckets::token;

use crate::http::Failure;

/// One removal; a server takes a second for a million messages.
const REMOVAL: Duration = Duration::from_secs(30);

/// Removes.
pub struct TenantData {
    context: Context,
    link: Watcher,
}

impl TenantData {
    /// On a connection of the user `control`, whose client makes its inboxes where that user may listen.
    pub fn new(client: async_nats::Client, link: Watcher) -> Self {
        Self { context: jetstream::new(client), link }
    }

    /// Removes schedules of an install, or of all of a tenant's. The gateway that fires them finds them gone when the next one is due.
    pub async fn remove_schedules(&self, tenant: &TenantId, install: Option<&str>) -> Result<u64, Failure> {
        let owner = token(tenant.as_str());
        let subject = match install {
            Some(install) => format!("$KV.longshore-schedules.{owner}.{}.*", token(install)),
            None => format!("$KV.longshore-schedules.{owner}.>"),
        };
        self.purge("KV_longshore-schedules", &subject).await
    }

    /// Removes what an install, or all of a tenant's, has in `storage`: the entries, then the records of how many there are, which
    /// are not counted here.
    pub async fn remove_storage(&self, tenant: &TenantId, install: Option<&str>) -> Result<u64, Failure> {
        const BUCKET: &str = "$KV.longshore-storage";
        let owner = storage_token(tenant.as_str());
        let (entries, records) = match install.map(storage_token) {
            Some(install) => {
                (format!("{BUCKET}.v.{owner}.{install}.>"), format!("{BUCKET}.u.{owner}.{install}"))
            }
            None => (format!("{BUCKET}.v.{owner}.>"), format!("{BUCKET}.u.{owner}.>")),
        };
        let removed = self.purge("KV_longshore-storage", &entries).await?;
        self.purge("KV_longshore-storage", &records).await?;
        Ok(removed)
    }

    /// Removes what gateways remember of an install's pages, by each of its names, for pages may be called by any of them; those of
    /// another tenant's install are soon remembered again.
    pub async fn remove_hints(&self, install: &Install) -> Result<u64, Failure> {
        let version = &install.version;
        let names = [
            install.extension.to_string(),
            install.install_id.clone(),
            version.name.clone(),
            version.name.to_lowercase(),
            version.slug(),
        ];
        let mut removed = 0;
        for name in BTreeSet::from(names).iter().filter(|name| !name.is_empty()) {
            let subject = format!("$KV.longshore-ui-hints.{}.*", token(name));
            removed += self.purge("KV_longshore-ui-hints", &subject).await?;
        }
        Ok(removed)
    }

    async fn purge(&self, stream: &str, subject: &str) -> Result<u64, Failure> {
        if !self.link.is_connected() {
            return Err(Failure::no_nats());
        }
        let work = async {
            let stream = match self.context.get_stream(stream).await {
                Ok(stream) => stream,
                Err(error) => {
                    return match error.kind() {
                        // Nobody has ever used it.
                        GetStreamErrorKind::JetStream(cause)
                            if cause.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                        {
                            Ok(0)
                        }
                        _ => Err(Failure::unavailable("NATS JetStream", &error)),
                    };
                }
            };
            let purged = stream.purge().filter(subject).await;
            purged.map(|purged| purged.purged).map_err(|error| Failure::unavailable("NATS JetStream", &error))
        };
        match tokio::time::timeout(REMOVAL, work).await {
            Ok(done) => done,
            Err(error) => Err(Failure::unavailable("NATS JetStream", &error)),
        }
    }
}

/// A part of a key as `longshore-storage` spells it: itself if it is plain, else `=` and base64url.
fn storage_token(part: &str) -> String {
    let plain =
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if plain { part.to_owned() } else { format!("={}", URL_SAFE_NO_PAD.encode(part)) }
}
