//! What is answered for a file: headers, conditions, ranges, encodings, fallback, refusals.

use std::io::Read as _;

use super::support::*;

const T: &str = "?tenant=t-1";
const FOR_EVER: &str = "public, max-age=31536000, immutable";

#[tokio::test]
async fn a_file_is_served_with_its_type_etag_and_a_year_of_caching() {
    let (_world, gateway, base) = loose().await;
    for (path, content_type) in [
        ("index.html", "text/html; charset=utf-8"),
        ("assets/app.js", "text/javascript; charset=utf-8"),
        ("assets/style.css", "text/css; charset=utf-8"),
        ("logo.svg", "image/svg+xml"),
        ("photo.png", "image/png"),
        ("empty.txt", "text/plain; charset=utf-8"),
        ("LICENSE", "application/octet-stream"),
    ] {
        let reply = gateway.get(&format!("{base}/{path}{T}"), &[]).await;
        assert_eq!(reply.status, 200, "{path}");
        let (_, expected) = pages().into_iter().find(|(name, _)| *name == format!("ui/{path}")).unwrap();
        assert_eq!(reply.body, expected, "{path}");
        assert_eq!(reply.header("content-type"), content_type, "{path}");
        assert_eq!(reply.header("content-length"), expected.len().to_string(), "{path}");
        assert_eq!(reply.header("cache-control"), FOR_EVER, "{path}");
        assert_eq!(reply.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(reply.header("access-control-allow-origin"), "*", "{path}");
        assert_eq!(reply.header("cross-origin-resource-policy"), "cross-origin", "{path}");
        assert_eq!(reply.header("referrer-policy"), "no-referrer", "{path}");
        assert_eq!(reply.header("accept-ranges"), "bytes", "{path}");
        let etag = reply.header("etag");
        assert!(etag.starts_with("\"sha256-") && etag.len() == 73, "{path}: {etag}");
        let has_policy = reply.headers.contains_key("content-security-policy");
        assert_eq!(has_policy, path.ends_with("html") || path.ends_with("svg"), "{path}");
    }
}

#[tokio::test]
async fn the_etag_is_the_hash_of_the_bytes() {
    let (_world, gateway, base) = loose().await;
    let reply = gateway.get(&format!("{base}/LICENSE{T}"), &[]).await;
    // sha256sum of "free"
    let hex = longshore_bundle::archive::content_hash(b"free").hex();
    assert_eq!(reply.header("etag"), format!("\"sha256-{hex}\""));
}

#[tokio::test]
async fn every_spelling_of_hash_and_both_bases_lead_to_the_same_file() {
    let (_world, gateway, base) = loose().await;
    let hex = base.rsplit(':').next().unwrap().to_owned();
    for hash in [
        hex.clone(),
        hex.to_uppercase(),
        format!("sha256:{hex}"),
        format!("sha256%3A{hex}"),
        format!("SHA256:{hex}"),
    ] {
        for prefix in ["", "/runner"] {
            let uri = format!("{prefix}/ext-ui/{EXTENSION}/{hash}/assets/style.css{T}");
            assert_eq!(gateway.get(&uri, &[]).await.status, 200, "{uri}");
        }
    }
    let other = gateway.get(&format!("/other{base}/index.html{T}"), &[]).await;
    assert_eq!(other.status, 404);
}

#[tokio::test]
async fn an_empty_tail_is_the_entry_and_a_missing_slash_is_added() {
    let (_world, gateway, base) = loose().await;
    let reply = gateway.get(&format!("{base}/{T}&path=/x"), &[]).await;
    assert_eq!((reply.status.as_u16(), reply.header("content-type")), (200, "text/html; charset=utf-8"));
    let reply = gateway.get(&format!("{base}{T}"), &[]).await;
    assert_eq!(reply.status, 307);
    let last = base.rsplit('/').next().unwrap();
    assert_eq!(reply.header("location"), format!("./{last}/{T}"));
    assert!(reply.is_not_kept());
}

#[tokio::test]
async fn what_is_known_is_not_sent_again() {
    let (_world, gateway, base) = loose().await;
    let uri = format!("{base}/index.html{T}");
    let etag = gateway.get(&uri, &[]).await.header("etag").to_owned();
    for known in [etag.clone(), format!("\"x\", {etag}"), "*".to_owned(), format!("W/{etag}")] {
        let reply = gateway.get(&uri, &[("if-none-match", &known)]).await;
        assert_eq!(reply.status, 304, "{known}");
        assert!(reply.body.is_empty());
        assert_eq!(reply.header("etag"), etag);
        assert_eq!(reply.header("cache-control"), FOR_EVER);
        assert!(reply.headers.contains_key("content-security-policy"));
    }
    for other in ["\"x\"", "", &etag[1..], "\"sha256-\""] {
        assert_eq!(gateway.get(&uri, &[("if-none-match", other)]).await.status, 200, "{other}");
    }
}

#[tokio::test]
async fn a_range_is_sent_alone() {
    let (_world, gateway, base) = loose().await;
    let uri = format!("{base}/big.json{T}");
    let whole = gateway.get(&uri, &[]).await;
    let (len, etag) = (whole.body.len(), whole.header("etag").to_owned());
    for (range, from, to) in [
        ("bytes=0-0".to_owned(), 0, 1),
        ("bytes=100-199".to_owned(), 100, 200),
        ("bytes=65000-265000".to_owned(), 65_000, 265_001),
        (format!("bytes={}-", len - 5), len - 5, len),
        ("bytes=-7".to_owned(), len - 7, len),
    ] {
        // Also where the caller would take compression: a part is one of the plain bytes.
        let reply = gateway.get(&uri, &[("range", &range), ("accept-encoding", "br")]).await;
        assert_eq!(reply.status, 206, "{range}");
        assert_eq!(reply.body, whole.body.slice(from..to), "{range}");
        assert_eq!(reply.header("content-range"), format!("bytes {from}-{}/{len}", to - 1));
        assert_eq!(reply.header("content-length"), (to - from).to_string());
        assert_eq!(reply.header("etag"), etag);
        assert_eq!(reply.header("content-encoding"), "");
        assert_eq!(reply.header("cache-control"), FOR_EVER);
    }
    let reply = gateway.get(&uri, &[("range", "bytes=99999999-")]).await;
    assert_eq!(
        (reply.status.as_u16(), reply.header("content-range")),
        (416, format!("bytes */{len}").as_str())
    );
    assert!(reply.is_not_kept());
    for ignored in ["bytes=0-1,5-6", "lines=1-2", "bytes=5-1", "x"] {
        assert_eq!(gateway.get(&uri, &[("range", ignored)]).await.status, 200, "{ignored}");
    }
    let same = gateway.get(&uri, &[("range", "bytes=0-9"), ("if-range", &etag)]).await;
    assert_eq!(same.status, 206);
    for other in ["\"x\"", "Wed, 21 Oct 2026 07:28:00 GMT", &format!("W/{etag}")] {
        let reply = gateway.get(&uri, &[("range", "bytes=0-9"), ("if-range", other)]).await;
        assert_eq!(reply.status, 200, "{other}");
    }
}

#[tokio::test]
async fn text_is_compressed_as_the_caller_likes_best() {
    let (_world, gateway, base) = loose().await;
    let uri = format!("{base}/assets/app.js{T}");
    let plain = gateway.get(&uri, &[]).await;
    let mut etags = vec![plain.header("etag").to_owned()];
    for (accept, encoding) in
        [("gzip, deflate, br, zstd", "br"), ("zstd, gzip", "zstd"), ("gzip;q=0.9, br;q=0.1", "gzip")]
    {
        let reply = gateway.get(&uri, &[("accept-encoding", accept)]).await;
        assert_eq!((reply.status.as_u16(), reply.header("content-encoding")), (200, encoding));
        assert!(reply.body.len() < plain.body.len() / 5, "{encoding}: {}", reply.body.len());
        assert_eq!(reply.header("content-length"), reply.body.len().to_string());
        assert_eq!(reply.header("vary"), "accept-encoding");
        assert_eq!(reply.header("content-type"), plain.header("content-type"));
        assert_eq!(reply.header("accept-ranges"), "");
        let mut back = Vec::new();
        match encoding {
            "br" => drop(brotli::Decompressor::new(&*reply.body, 4096).read_to_end(&mut back).unwrap()),
            "zstd" => back = zstd::decode_all(&*reply.body).unwrap(),
            _ => drop(flate2::read::GzDecoder::new(&*reply.body).read_to_end(&mut back).unwrap()),
        }
        assert_eq!(back, plain.body, "{encoding}: not what a bundle planted beside it");
        let etag = reply.header("etag").to_owned();
        let known = gateway.get(&uri, &[("accept-encoding", accept), ("if-none-match", &etag)]).await;
        assert_eq!(known.status, 304, "{encoding}");
        assert!(!etags.contains(&etag), "each representation has its own");
        etags.push(etag);
    }
    for (path, accept) in [
        ("photo.png", "br"),
        ("assets/style.css", "br"),
        ("assets/app.js", "identity"),
        ("assets/app.js", "br;q=0"),
    ] {
        let reply = gateway.get(&format!("{base}/{path}{T}"), &[("accept-encoding", accept)]).await;
        assert_eq!(reply.header("content-encoding"), "", "{path} {accept}");
    }
    assert_eq!(plain.header("vary"), "accept-encoding");
}

#[tokio::test]
async fn a_proxy_that_unpacks_by_itself_gets_plain_bytes() {
    let (_world, gateway, base) = loose().await;
    let uri = format!("{base}/assets/app.js{T}");
    let node = [("accept-encoding", "gzip, br"), ("sec-fetch-mode", "cors")];
    assert_eq!(gateway.get(&uri, &node).await.header("content-encoding"), "");
    let browser = [("accept-encoding", "gzip, br"), ("sec-fetch-mode", "cors"), ("sec-fetch-dest", "script")];
    assert_eq!(gateway.get(&uri, &browser).await.header("content-encoding"), "br");
}

#[tokio::test]
async fn head_says_all_but_the_bytes() {
    let (_world, gateway, base) = loose().await;
    for (path, headers) in [
        ("assets/app.js", &[("accept-encoding", "zstd")][..]),
        ("assets/app.js", &[]),
        ("big.json", &[("range", "bytes=0-9")]),
        ("nothing.js", &[]),
    ] {
        let uri = format!("{base}/{path}{T}");
        let head = gateway.ask("HEAD", &uri, headers).await;
        assert!(head.body.is_empty());
        // A range is defined for GET alone.
        let without: Vec<_> = headers.iter().copied().filter(|(name, _)| *name != "range").collect();
        let get = gateway.get(&uri, &without).await;
        assert_eq!((head.status, &head.headers), (get.status, &get.headers), "{path}");
    }
}

#[tokio::test]
async fn other_methods_are_refused() {
    let (_world, gateway, base) = loose().await;
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
        let reply = gateway.ask(method, &format!("{base}/index.html{T}"), &[]).await;
        assert_eq!((reply.status.as_u16(), reply.header("allow")), (405, "GET, HEAD"), "{method}");
        assert!(reply.is_not_kept());
    }
}

#[tokio::test]
async fn only_navigations_to_routes_fall_back_to_the_page() {
    let (_world, gateway, base) = loose().await;
    for (path, headers, status) in [
        ("settings/users", NAVIGATION, 200),
        ("settings", &[("accept", "text/html")][..], 200),
        ("assets/", NAVIGATION, 200),
        ("assets", NAVIGATION, 200),
        ("settings", SCRIPT, 404),
        ("settings", &[], 404),
        ("missing.js", NAVIGATION, 404),
        ("missing.js", SCRIPT, 404),
        ("missing.html", NAVIGATION, 404),
        ("assets/", &[], 404),
        ("LICENSE/x", &[], 404),
        ("index.html/x", &[], 404),
    ] {
        let reply = gateway.get(&format!("{base}/{path}{T}"), headers).await;
        assert_eq!(reply.status, status, "{path} {headers:?}");
        if status == 200 {
            assert!(reply.text().starts_with("<!doctype html>"), "{path}");
            assert_eq!(reply.header("cache-control"), "no-cache", "{path}");
        } else {
            assert!(reply.is_not_kept() && reply.body.is_empty(), "{path}");
        }
    }
}

#[tokio::test]
async fn a_hostile_path_is_refused_with_the_words_of_the_existing_platform() {
    let (_world, gateway, base) = loose().await;
    for path in [
        "/etc/passwd",
        "../manifest.json",
        "%2e%2e/manifest.json",
        "..%2fmanifest.json",
        ".env",
        "a/.git/config",
        "a%5cb.js",
        "x.php",
        "x.js.",
        "a%00.js",
        "%zz",
        "assets/%2e%2e/%2e%2e/x.js",
        "a%0ab.js",
        "..%5c..%5cx.js",
    ] {
        let reply = gateway.get(&format!("{base}/{path}{T}"), NAVIGATION).await;
        assert_eq!((reply.status.as_u16(), reply.text().as_str()), (400, "invalid path"), "{path}");
        assert!(reply.is_not_kept());
    }
    for hash in ["sha256:", "sha256:zz", "latest", "..", "%2e%2e"] {
        let reply = gateway.get(&format!("/ext-ui/{EXTENSION}/{hash}/index.html{T}"), &[]).await;
        assert_eq!((reply.status.as_u16(), reply.text().as_str()), (400, "invalid content hash"), "{hash}");
    }
    for uri in ["/ext-ui/", "/ext-ui/x", "/ext-ui//x/y", "/ext-ui/..%2f/x/y"] {
        assert_eq!(gateway.get(uri, &[]).await.status, 404, "{uri}");
    }
}

#[tokio::test]
async fn neither_component_nor_manifest_nor_the_archive_is_a_page() {
    let (_world, gateway, base) = loose().await;
    for path in ["manifest.json", "dist/main.wasm", "bundle/dist/main.wasm", "meta.json", "ui/index.html"] {
        assert_eq!(gateway.get(&format!("{base}/{path}{T}"), &[]).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_file_over_the_limit_is_refused() {
    let world = World::new();
    let hash = world.put(TENANT, &pages()).await;
    let settings = [("RUNNER_STATIC_STRICT_VALIDATION", "false"), ("EXT_STATIC_MAX_FILE_BYTES", "100000")];
    let gateway = world.gateway(&settings).await;
    let reply = gateway.get(&format!("/ext-ui/{EXTENSION}/{hash}/big.json{T}"), &[]).await;
    assert_eq!((reply.status.as_u16(), reply.text().as_str()), (413, "asset too large"));
    assert!(reply.is_not_kept());
    assert_eq!(gateway.count("longshore_shim_ui_files_hashed_total"), 0, "it is not read");
    assert_eq!(gateway.get(&format!("/ext-ui/{EXTENSION}/{hash}/photo.png{T}"), &[]).await.status, 200);
}

#[tokio::test]
async fn many_first_requests_fetch_hash_and_compress_once() {
    let (_world, gateway, base) = loose().await;
    let uri = format!("{base}/assets/app.js{T}");
    let asking = (0..40).map(|_| gateway.get(&uri, &[("accept-encoding", "br")]));
    for reply in futures::future::join_all(asking).await {
        assert_eq!((reply.status.as_u16(), reply.header("content-encoding")), (200, "br"));
    }
    assert_eq!(gateway.count("longshore_shim_ui_files_hashed_total"), 1);
    assert_eq!(gateway.count("longshore_shim_ui_files_encoded_total"), 1);
    assert_eq!(gateway.count("longshore_shim_ui_requests_total{status=\"200\"}"), 40);
}

#[tokio::test]
async fn half_a_bundle_is_never_served() {
    let world = World::new();
    let hash = world.put(TENANT, &pages()).await;
    // What a process leaves that died while it unpacked in place.
    let half = world.cache().join(hash.hex()).join("ui");
    std::fs::create_dir_all(&half).unwrap();
    std::fs::write(half.join("index.html"), "half").unwrap();
    std::fs::write(half.join("only-here.js"), "half").unwrap();
    let gateway = world.gateway(&[("EXT_STATIC_STRICT_VALIDATION", "false")]).await;
    let base = format!("/ext-ui/{EXTENSION}/{hash}");
    let reply = gateway.get(&format!("{base}/index.html{T}"), &[]).await;
    assert!(reply.text().starts_with("<!doctype html>"));
    assert_eq!(gateway.get(&format!("{base}/only-here.js{T}"), &[]).await.status, 404);
}

#[tokio::test]
async fn a_link_in_the_cache_folder_is_not_followed() {
    let (world, gateway, base) = loose().await;
    assert_eq!(gateway.get(&format!("{base}/index.html{T}"), &[]).await.status, 200);
    let hex = base.rsplit(':').next().unwrap();
    let ui = world.cache().join(hex).join("ui");
    std::os::unix::fs::symlink("/etc/passwd", ui.join("link.txt")).unwrap();
    assert!(exists(&ui.join("link.txt")));
    assert_eq!(gateway.get(&format!("{base}/link.txt{T}"), &[]).await.status, 404);
}

#[tokio::test]
async fn what_cannot_be_fetched_or_unpacked_has_the_codes_of_the_existing_platform() {
    let world = World::new();
    let gateway = world.gateway(&[("EXT_STATIC_STRICT_VALIDATION", "false")]).await;
    let archive = longshore_bundle::archive::pack_files([("ui/index.html", "x")], 1).unwrap();
    let hash = longshore_bundle::archive::content_hash(&archive);
    let (wrong, damaged) = ([1u8; 32], longshore_bundle::archive::content_hash(b"no archive"));
    let wrong = longshore_proto::ContentHash::from_bytes(wrong);
    world.put_archive(TENANT, wrong, archive).await;
    world.put_archive(TENANT, damaged, b"no archive".to_vec()).await;
    for (hash, status, body) in [
        (wrong, 502, r#"{"code":"archive_hash_mismatch"}"#),
        (damaged, 500, r#"{"code":"extract_failed"}"#),
        (hash, 500, r#"{"code":"extract_failed"}"#),
    ] {
        let reply = gateway.get(&format!("/ext-ui/{EXTENSION}/{hash}/index.html{T}"), &[]).await;
        assert_eq!((reply.status.as_u16(), reply.text().as_str()), (status, body));
        assert_eq!(reply.header("content-type"), "application/json");
        assert!(reply.is_not_kept());
    }
    assert!(world.shared.0.lock().is_empty(), "no hint of what is not there");
}

#[tokio::test]
async fn a_gateway_without_a_store_says_so() {
    let world = World::new();
    let gateway = world.gateway_with(&[], None).await;
    let hex = "00".repeat(32);
    let reply = gateway.get(&format!("/ext-ui/{EXTENSION}/{hex}/index.html{T}"), &[]).await;
    assert_eq!(reply.status, 503);
    assert!(reply.text().contains("BUNDLE_STORE_BASE"));
    assert!(reply.is_not_kept());
}

#[tokio::test]
async fn a_bundle_without_pages_has_none() {
    let world = World::new();
    let hash = world.put(TENANT, &[("dist/main.wasm", b"\0asm".to_vec())]).await;
    let gateway = world.gateway(&[("EXT_STATIC_STRICT_VALIDATION", "false")]).await;
    let reply = gateway.get(&format!("/ext-ui/{EXTENSION}/{hash}/index.html{T}"), NAVIGATION).await;
    assert_eq!(reply.status, 404);
}

#[tokio::test]
async fn frame_ancestors_are_appended_to_the_policy() {
    let world = World::new();
    let hash = world.put(TENANT, &pages()).await;
    let settings =
        [("EXT_STATIC_STRICT_VALIDATION", "no"), ("EXT_UI_FRAME_ANCESTORS", "https://app.example")];
    let gateway = world.gateway(&settings).await;
    let reply = gateway.get(&format!("/ext-ui/{EXTENSION}/{hash}/{T}"), &[]).await;
    let policy = reply.header("content-security-policy");
    assert!(
        policy.starts_with("default-src 'self'; ")
            && policy.ends_with("; frame-ancestors https://app.example")
    );
}
