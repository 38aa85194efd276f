//! Settings of the host page.

use longshore_service::config::ConfigErrors;
use url::Url;

longshore_service::settings! {
    /// The host page of development (`/msp/extensions/`), which is there with `LONGSHORE_DEV_TENANT` alone.
    pub struct DevHostSettings, group "Development host page", validate check {
        /// Where the page's frame points instead of the installed pages: a development server such as `http://localhost:5173/`, so that
        /// changes are seen without an installation.
        pub ui_url: Option<Url>, env "LONGSHORE_DEV_UI_URL";
    }
}

fn check(config: &DevHostSettings, errors: &mut ConfigErrors) {
    let Some(url) = &config.ui_url else { return };
    let plain =
        matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none();
    if !plain {
        errors.other("LONGSHORE_DEV_UI_URL must be an http:// or https:// URL without a user, such as http://localhost:5173/");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_frame_points_at_web_pages_alone() {
        let load = |url: &str| {
            let env = BTreeMap::from([("LONGSHORE_DEV_UI_URL".to_owned(), url.to_owned())]);
            DevHostSettings::load(&env, ["shim".to_owned()]).map_err(|e| e.to_string())
        };
        assert!(load("http://localhost:5173/index.html").unwrap().ui_url.is_some());
        for bad in [
            "javascript:alert(1)",
            "file:///etc/passwd",
            "http://u:p@localhost/",
            "localhost:5173",
            "data:text/html,x",
        ] {
            assert!(load(bad).unwrap_err().contains("LONGSHORE_DEV_UI_URL"), "{bad}");
        }
    }
}
