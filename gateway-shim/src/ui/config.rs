//! Settings of the UI assets.

use std::path::PathBuf;

use longshore_bundle::CacheConfig;
use longshore_service::config::{ByteSize, ConfigErrors};
use url::Url;

longshore_service::setting_enum! {
    /// How a strict gateway knows the tenant of what a page loads: scripts, styles and fonts are asked for without `?tenant=`.
    pub enum SubResources {
        /// By the page's own address: it is answered with a redirect to a signed path, to which all relative addresses keep.
        Signed = "signed",
        /// By who was last shown pages of the extension and hash, and only where the registry confirms it once more.
        Hint = "hint",
    }
}

longshore_service::settings! {
    /// How UI assets are served.
    pub struct AssetSettings, group "UI assets", validate check {
        /// Whether an asset is served only after the registry has confirmed tenant, extension and hash.
        pub strict: bool = "true", env "EXT_STATIC_STRICT_VALIDATION", aliases ["RUNNER_STATIC_STRICT_VALIDATION"];
        /// How a strict gateway knows the tenant of what a page loads: `signed` (a redirect to a signed path) or `hint`. `hint` is for a gateway in
        /// front that follows redirects by itself, as the existing platform's `/runner` proxy does: its browsers never see the signed path.
        pub sub_resources: SubResources = "signed", env "LONGSHORE_UI_SUBRESOURCES";
        /// Where a gateway in front serves this one: UI assets are also answered below it. Of an absolute URL the path counts; `/` means nowhere else.
        pub public_base: String = "/runner", env "RUNNER_PUBLIC_BASE";
        /// Bytes of the largest asset. Unset: as large as a bundle may be.
        pub max_file_bytes: Option<ByteSize>, env "EXT_STATIC_MAX_FILE_BYTES";
        /// Replaces the whole content security policy of HTML pages. One that no header can hold is ignored with a warning.
        pub content_security_policy: Option<String>, env "EXT_UI_CONTENT_SECURITY_POLICY";
        /// Who may frame the pages: appended to the default policy as `frame-ancestors`. Ignored with a warning where it is no list of sources.
        pub frame_ancestors: Option<String>, env "EXT_UI_FRAME_ANCESTORS";
        /// Where bundles are unpacked; may be shared with workers on the same machine.
        pub cache_root: PathBuf = "/tmp/alga-ext-cache", env "EXT_CACHE_ROOT";
        /// Unpacked bytes kept on disk; what is in use stays, even above.
        pub cache_max_bytes: ByteSize = "8GiB", env "EXT_CACHE_MAX_BYTES";
        /// Bytes of compressed copies of assets kept on disk beside the bundles.
        pub encoded_max_bytes: ByteSize = "512MiB", env "LONGSHORE_UI_ENCODED_BYTES";
    }
}

fn check(config: &AssetSettings, errors: &mut ConfigErrors) {
    if base(&config.public_base).is_none() {
        errors.invalid(
            "RUNNER_PUBLIC_BASE",
            &config.public_base,
            "a path such as /runner, or a URL with one: segments of A-Z a-z 0-9 . _ -",
        );
    }
}

/// The path of a public base, without a trailing `/`; empty for none.
fn base(text: &str) -> Option<String> {
    let text = text.trim();
    let path = match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => url.path().to_owned(),
        Ok(_) => return None,
        Err(_) => text.to_owned(),
    };
    let path = path.trim_end_matches('/');
    if path.is_empty() {
        return Some(String::new());
    }
    let plain = |segment: &str| {
        !segment.is_empty()
            && !segment.starts_with('.')
            && segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    };
    let segments = path.strip_prefix('/')?;
    // Else two routes would be one.
    let taken = ["ext-ui", "v1", "api", "msp"].iter().any(|own| segments.split('/').next() == Some(own));
    (!taken && segments.split('/').all(plain)).then(|| path.to_owned())
}

impl AssetSettings {
    /// Below which path UI assets are answered besides `/ext-ui`; None: nowhere else.
    pub fn base(&self) -> Option<String> {
        base(&self.public_base).filter(|base| !base.is_empty())
    }

    /// The gateway's cache of unpacked bundles.
    pub fn cache(&self) -> CacheConfig {
        CacheConfig { max_bytes: self.cache_max_bytes.bytes(), ..CacheConfig::new(&self.cache_root) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn load(pairs: &[(&str, &str)]) -> Result<AssetSettings, String> {
        let env: BTreeMap<String, String> =
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        AssetSettings::load(&env, ["shim".to_owned()]).map_err(|e| e.to_string())
    }

    #[test]
    fn strictness_is_spelled_in_every_way_that_the_platform_knows_and_is_on_unless_it_says_no() {
        for name in ["EXT_STATIC_STRICT_VALIDATION", "RUNNER_STATIC_STRICT_VALIDATION"] {
            for yes in ["1", "true", "yes", "TRUE", "Yes"] {
                assert!(load(&[(name, yes)]).unwrap().strict, "{name}={yes}");
            }
            assert!(!load(&[(name, "false")]).unwrap().strict);
        }
        assert!(load(&[]).unwrap().strict);
    }

    #[test]
    fn the_public_base_is_a_path_or_the_path_of_a_url() {
        let base = |text: &str| load(&[("RUNNER_PUBLIC_BASE", text)]).map(|settings| settings.base());
        assert_eq!(load(&[]).unwrap().base().as_deref(), Some("/runner"));
        assert_eq!(base("/runner/").unwrap().as_deref(), Some("/runner"));
        assert_eq!(base("https://h.example/a/b").unwrap().as_deref(), Some("/a/b"));
        assert_eq!(base("/").unwrap(), None);
        assert_eq!(base("https://h.example").unwrap(), None);
        for bad in ["runner", "/a/../b", "/a//b", "/a b", "/{x}", "/ext-ui", "/v1/x", "ftp://h/x", "/*"] {
            assert!(base(bad).unwrap_err().contains("RUNNER_PUBLIC_BASE"), "{bad}");
        }
    }
}
