//! The platform behind the workers: clients, services, invoices and REST routes from a seed file, so that an extension that needs
//! them runs on a laptop. Storage and schedules are the fleet's own.

use std::path::Path;

use anyhow::Context as _;
use longshore_stub_platform::{Options, Seed, StubPlatform};

use super::environment::Inherited;
use super::ui::Ui;

/// Who names one of these has a platform.
const OWN: [&str; 3] = ["STORAGE_API_BASE_URL", "REGISTRY_BASE_URL", "RUNNER_REGISTRY_BASE_URL"];
/// Answers of the seed's REST routes are for whoever asks: no extension has a key here.
const UI_PROXY: &str = "UI_PROXY_BASE_URL";

/// What the workers are told of the platform, and the platform itself while it is ours.
#[derive(Default)]
pub(super) struct Platform {
    settings: Vec<(&'static str, String)>,
    _stub: Option<StubPlatform>,
}

impl Platform {
    /// Starts one from the seed file, or from the sample without one. A user who has a platform and gives no seed keeps it.
    pub(super) async fn start(seed: Option<&Path>, inherited: &Inherited, ui: &Ui) -> anyhow::Result<Self> {
        if seed.is_none()
            && let Some((name, url)) = OWN.iter().find_map(|name| Some((name, inherited.text(name)?)))
        {
            ui.item(
                "platform",
                format!("{url} (of {name}); `--seed FILE` takes one of this command's own instead"),
            );
            return Ok(Self::default());
        }
        let (seed, whence) = match seed {
            Some(path) => (Seed::load(path)?, path.display().to_string()),
            None => (Seed::sample(), "sample data; `--seed FILE` takes yours".to_owned()),
        };
        let token = hex(&rand::random::<[u8; 16]>());
        let options = Options { seed, token: Some(token.clone()), remember: 0, ..Options::default() };
        let stub = StubPlatform::start(options).await.context("the platform's stand-in does not start")?;
        ui.item("platform", format!("{} ({whence})", stub.base_url()));
        let mut settings =
            vec![("STORAGE_API_BASE_URL", stub.base_url()), ("RUNNER_STORAGE_API_TOKEN", token)];
        if inherited.text(UI_PROXY).is_none() {
            settings.push((UI_PROXY, stub.base_url()));
        }
        // With a platform, its storage and scheduler would be the default; the stand-in forgets and fires nothing.
        for name in ["LONGSHORE_STORAGE", "LONGSHORE_SCHEDULER"] {
            if inherited.text(name).is_none() {
                settings.push((name, "nats".to_owned()));
            }
        }
        Ok(Self { settings, _stub: Some(stub) })
    }

    /// For the workers' environment.
    pub(super) fn settings(&self) -> &[(&'static str, String)] {
        &self.settings
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn inherited(pairs: &[(&str, &str)]) -> Inherited {
        Inherited::of(pairs)
    }

    fn names(platform: &Platform) -> Vec<&'static str> {
        platform.settings().iter().map(|(name, _)| *name).collect()
    }

    #[tokio::test]
    async fn without_a_platform_the_workers_are_told_of_the_stand_in() {
        let platform = Platform::start(None, &inherited(&[]), &Ui::new()).await.unwrap();
        let all = [
            "STORAGE_API_BASE_URL",
            "RUNNER_STORAGE_API_TOKEN",
            "UI_PROXY_BASE_URL",
            "LONGSHORE_STORAGE",
            "LONGSHORE_SCHEDULER",
        ];
        assert_eq!(names(&platform), all);
    }

    #[tokio::test]
    async fn a_users_own_platform_and_choices_are_kept() {
        for name in OWN {
            let own = inherited(&[(name, "http://platform:3000")]);
            assert!(names(&Platform::start(None, &own, &Ui::new()).await.unwrap()).is_empty());
        }
        let own = inherited(&[("UI_PROXY_BASE_URL", "http://ui"), ("LONGSHORE_STORAGE", "platform")]);
        let platform = Platform::start(None, &own, &Ui::new()).await.unwrap();
        assert_eq!(
            names(&platform),
            ["STORAGE_API_BASE_URL", "RUNNER_STORAGE_API_TOKEN", "LONGSHORE_SCHEDULER"]
        );
    }

    #[tokio::test]
    async fn a_seed_file_is_used_whatever_else_is_set_and_a_bad_one_is_named() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(file, "{}", Seed::sample_json()).unwrap();
        let own = inherited(&[("STORAGE_API_BASE_URL", "http://platform:3000")]);
        assert!(!names(&Platform::start(Some(file.path()), &own, &Ui::new()).await.unwrap()).is_empty());
        write!(file, "x").unwrap();
        let error = Platform::start(Some(file.path()), &own, &Ui::new()).await.err().unwrap();
        assert!(format!("{error:#}").contains(&file.path().display().to_string()), "{error:#}");
        assert!(Platform::start(Some(Path::new("/nowhere.json")), &own, &Ui::new()).await.is_err());
    }
}
