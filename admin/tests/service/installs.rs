//! Install, upgrade, roll back, uninstall.

use serde_json::{Value, json};

use crate::support::{Admin, pages};

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_is_uploaded_installed_upgraded_rolled_back_and_uninstalled() {
    let admin = Admin::start().await;
    let uploaded = admin.upload("t-1", "", pages("a.b", "1.0.0", &["cap:http.fetch"])).await;
    assert_eq!(uploaded.status, 201);
    let uploaded = uploaded.ok();
    assert_eq!(
        (&uploaded["name"], &uploaded["has_ui"], &uploaded["stored"]),
        (&json!("a.b"), &json!(true), &json!(true))
    );
    assert!(admin.store().join(uploaded["object_key"].as_str().unwrap()).is_file());
    let again = admin.upload("t-1", "", pages("a.b", "1.0.0", &["cap:http.fetch"])).await;
    assert_eq!((again.status, &again.json["stored"]), (200, &json!(false)));

    // Nobody has decided on what it asks for.
    let hash = &uploaded["content_hash"];
    let without = admin
        .ask("POST", "/v1/tenants/t-1/installs", Some(json!({ "content_hash": hash, "wait_ms": 0 })))
        .await;
    without.refused(409, "grant_required");
    assert!(without.json["message"].as_str().unwrap().contains("cap:http.fetch"));
    let request = json!({
        "content_hash": hash, "grant": "all", "wait_ms": 0, "config": { "colour": "red" },
        "secrets": { "api_key": "canary-3f" }, "limits": { "timeout_ms": 1000 }, "egress": ["api.example"],
        "hosts": ["App.Example"], "weight": 2,
    });
    let made = admin.ask("POST", "/v1/tenants/t-1/installs", Some(request.clone())).await;
    assert_eq!((made.status, &made.json["outcome"]), (201, &json!("created")));
    let install = &made.json["install"];
    assert_eq!(install["install_id"], uploaded["install_id"]);
    assert_eq!(install["secret_names"], json!(["api_key"]));
    assert_eq!(install["hosts"], json!(["app.example"]));
    assert!(install["granted"].as_array().unwrap().contains(&json!("cap:http.fetch")));
    assert!(!made.json.to_string().contains("canary"));

    // By each of its names, and by none of another tenant.
    for name in [&install["install_id"], &install["extension"], &install["name"], &install["slug"]] {
        let shown = admin.get(&format!("/v1/tenants/t-1/installs/{}", name.as_str().unwrap())).await.ok();
        assert_eq!(shown["install_id"], install["install_id"]);
        let elsewhere = admin.get(&format!("/v1/tenants/t-2/installs/{}", name.as_str().unwrap())).await;
        elsewhere.refused(404, "install_not_found");
    }

    // The same again, without the secrets, is no change.
    let mut same = request;
    same.as_object_mut().unwrap().remove("secrets");
    let unchanged = admin.ask("POST", "/v1/tenants/t-1/installs", Some(same)).await;
    assert_eq!((unchanged.status, &unchanged.json["outcome"]), (200, &json!("unchanged")));

    let second = admin.upload("t-1", "", pages("a.b", "2.0.0", &["cap:http.fetch"])).await.ok();
    let request = json!({ "content_hash": second["content_hash"], "wait_ms": 0 });
    let upgraded = admin.ask("POST", "/v1/tenants/t-1/installs", Some(request)).await.ok();
    assert_eq!(upgraded["outcome"], "updated");
    assert_eq!(upgraded["install"]["version"]["version"], "2.0.0");
    assert_eq!(upgraded["install"]["previous"][0]["version"], "1.0.0");
    assert_eq!(upgraded["install"]["config"]["colour"], "red", "kept");
    assert_eq!(upgraded["install"]["secret_names"], json!(["api_key"]), "kept");

    let back =
        admin.ask("POST", "/v1/tenants/t-1/installs/a.b/rollback", Some(json!({ "wait_ms": 0 }))).await.ok();
    assert_eq!(
        (&back["outcome"], &back["install"]["version"]["version"]),
        (&json!("rolled_back"), &json!("1.0.0"))
    );

    let used = format!(
        "/v1/tenants/t-1/extensions/{}/bundles/{}",
        install["extension"].as_str().unwrap(),
        hash.as_str().unwrap()
    );
    admin.ask("DELETE", &used, None).await.refused(409, "bundle_in_use");

    let token = json!({ "access": "read", "extensions": ["a.b"] });
    admin.ask("POST", "/v1/tenants/t-1/tokens", Some(token)).await.ok();
    let removed = admin.ask("DELETE", "/v1/tenants/t-1/installs/longshore.a.b", None).await.ok();
    assert_eq!(removed["removed"]["installs"], 1);
    assert_eq!(removed["removed"]["tokens"], 1, "a token for this install alone");
    admin.get("/v1/tenants/t-1/installs/a.b").await.refused(404, "install_not_found");
    assert!(
        admin.store().join(uploaded["object_key"].as_str().unwrap()).is_file(),
        "without purge the bundle stays"
    );

    let kinds = admin.audit().await;
    assert_eq!(
        kinds,
        [
            "bundle.uploaded",
            "bundle.uploaded",
            "install.created",
            "bundle.uploaded",
            "install.updated",
            "install.rolled_back",
            "token.created",
            "install.removed",
            "token.revoked",
        ]
    );
    let events = admin.get("/v1/audit?kind=install.created&tenant=t-1").await.ok();
    assert_eq!(events["events"].as_array().unwrap().len(), 1);
    assert_eq!(events["events"][0]["details"]["after"]["config_names"], json!(["colour"]));
    let everything =
        admin.get("/v1/audit?limit=1000").await.json.to_string() + &admin.service.lines().all().join("\n");
    assert!(!everything.contains("canary") && !everything.contains("\"red\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_install_is_changed_in_part_and_each_change_is_recorded_as_what_it_is() {
    let admin = Admin::start().await;
    admin.install("t", pages("a.b", "1.0.0", &["cap:storage.kv"])).await;
    let patch = async |body: Value| admin.ask("PATCH", "/v1/tenants/t/installs/a.b", Some(body)).await;
    assert_eq!(patch(json!({ "enabled": false })).await.ok()["install"]["enabled"], false);
    assert_eq!(patch(json!({ "enabled": false })).await.ok()["outcome"], "unchanged");
    assert_eq!(patch(json!({ "enabled": true, "wait_ms": 0 })).await.ok()["install"]["enabled"], true);
    let granted = patch(json!({ "grant": [] })).await.ok()["install"]["granted"].clone();
    assert!(!granted.as_array().unwrap().contains(&json!("cap:storage.kv")));
    assert_eq!(patch(json!({ "egress": [] })).await.ok()["install"]["egress"], json!([]));
    assert_eq!(patch(json!({ "any_egress": true })).await.ok()["install"]["egress"], Value::Null);
    patch(json!({ "grant": ["cap:http.fetch"] })).await.refused(409, "grant_not_requested");
    patch(json!({ "weight": 0 })).await.refused(400, "invalid_request");
    patch(json!({ "pool": "shim" })).await.refused(400, "invalid_request");
    patch(json!({ "content_hash": "x" })).await.refused(400, "invalid_request");
    let kinds = admin.audit().await;
    let expected = [
        "bundle.uploaded",
        "install.created",
        "install.disabled",
        "install.enabled",
        "grant.changed",
        "install.updated",
        "install.updated",
    ];
    assert_eq!(kinds, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_moves_from_one_tenant_to_another_and_a_host_belongs_to_one_install() {
    let admin = Admin::start().await;
    let uploaded = admin.upload("t-1", "", pages("a.b", "1.0.0", &[])).await.ok();
    let hash = &uploaded["content_hash"];
    let request = |tenant: Option<&str>| json!({ "content_hash": hash, "move_from": tenant, "hosts": ["a.example"], "wait_ms": 0 });
    admin.ask("POST", "/v1/tenants/t-2/installs", Some(request(None))).await.refused(404, "bundle_not_found");
    admin
        .ask("POST", "/v1/tenants/t-2/installs", Some(request(Some("t-3"))))
        .await
        .refused(404, "bundle_not_found");
    let moved = admin.ask("POST", "/v1/tenants/t-2/installs", Some(request(Some("t-1")))).await.ok();
    assert_eq!(moved["install"]["extension"], uploaded["extension"]);
    assert_ne!(moved["install"]["install_id"], uploaded["install_id"], "each tenant has its own");
    let listed = admin.get("/v1/tenants/t-2/bundles").await.ok();
    assert_eq!(
        (&listed["bundles"][0]["content_hash"], &listed["bundles"][0]["in_force"]),
        (hash, &json!(true))
    );
    admin.ask("POST", "/v1/tenants/t-1/installs", Some(request(None))).await.refused(409, "host_taken");
    // Two installs in two pages.
    let without = json!({ "content_hash": hash, "wait_ms": 0 });
    admin.ask("POST", "/v1/tenants/t-1/installs", Some(without)).await.ok();
    let page = admin.get("/v1/installs?limit=1").await.ok();
    assert_eq!(page["installs"][0]["tenant"], "t-1");
    let next = format!("/v1/installs?limit=1&cursor={}", page["next"].as_str().unwrap());
    let page = admin.get(&next).await.ok();
    assert_eq!((&page["installs"][0]["tenant"], &page["next"]), (&json!("t-2"), &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_extension_never_takes_the_place_of_one_that_is_installed() {
    let admin = Admin::start().await;
    let first = admin.install("t", pages("a.b", "1.0.0", &[])).await;
    let id = first["install"]["extension"].as_str().unwrap();
    let other = admin.upload("t", &format!("?extension={id}"), pages("c.d", "1.0.0", &[])).await.ok();
    let request = json!({ "content_hash": other["content_hash"], "extension": id, "wait_ms": 0 });
    admin.ask("POST", "/v1/tenants/t/installs", Some(request)).await.refused(409, "conflict");
    let elsewhere = admin.upload("t", "?extension=other", pages("a.b", "2.0.0", &[])).await.ok();
    let request = json!({ "content_hash": elsewhere["content_hash"], "extension": "other", "wait_ms": 0 });
    admin.ask("POST", "/v1/tenants/t/installs", Some(request)).await.refused(409, "conflict");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_that_was_damaged_in_the_store_is_not_installed() {
    let admin = Admin::start().await;
    let uploaded = admin.upload("t", "", pages("a.b", "1.0.0", &[])).await.ok();
    let object = admin.store().join(uploaded["object_key"].as_str().unwrap());
    std::fs::remove_file(&object).unwrap();
    std::fs::write(&object, pages("a.b", "6.6.6", &[])).unwrap();
    let request = json!({ "content_hash": uploaded["content_hash"], "wait_ms": 0 });
    admin.ask("POST", "/v1/tenants/t/installs", Some(request)).await.refused(422, "hash_mismatch");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_is_checked_when_it_is_stored_and_when_the_bundle_is_installed() {
    use longshore_bundle::archive::content_hash;
    use longshore_bundle::signature::{Identity, SigningKey};

    let key = SigningKey::generate().unwrap();
    let trust = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(trust.path(), format!("Key-Id: k1\n{}", key.public().to_pem())).unwrap();
    let admin = Admin::with(&[("SIGNING_TRUST_BUNDLE", trust.path().to_str().unwrap().to_owned())]).await;
    let archive = pages("a.b", "1.0.0", &[]);
    let hash = content_hash(&archive);
    let uploaded = admin.upload("t", "", archive).await.ok();
    assert_eq!(uploaded["signature"]["state"], "unsigned");
    let request = json!({ "content_hash": hash.to_string(), "wait_ms": 0 });
    let unsigned = admin.ask("POST", "/v1/tenants/t/installs", Some(request.clone())).await;
    unsigned.refused(409, "signature_refused");

    let path = format!(
        "/v1/tenants/t/extensions/{}/bundles/{hash}/signature",
        uploaded["extension"].as_str().unwrap()
    );
    let sign = |version: &str, hash| {
        let identity = Identity::new("Longshore", "a.b", version).unwrap();
        let file = key.sign("k1".parse().unwrap(), hash, identity, chrono::Utc::now());
        serde_json::from_str::<Value>(&file.to_json()).unwrap()
    };
    admin.ask("PUT", &path, Some(json!({}))).await.refused(409, "signature_refused");
    let another = sign("1.0.0", content_hash(b"another"));
    admin.ask("PUT", &path, Some(another)).await.refused(409, "signature_refused");
    // Kept, for it is this bundle's, and worth nothing.
    let wrong = admin.ask("PUT", &path, Some(sign("2.0.0", hash))).await.ok();
    assert_eq!(wrong["signature"]["state"], "refused");
    admin
        .ask("POST", "/v1/tenants/t/installs", Some(request.clone()))
        .await
        .refused(409, "signature_refused");
    let good = admin.ask("PUT", &path, Some(sign("1.0.0", hash))).await.ok();
    assert_eq!(good["signature"], json!({ "state": "valid", "key_id": "k1" }));
    let instead = admin.ask("PUT", &path, Some(sign("2.0.0", hash))).await;
    instead.refused(409, "signature_refused");
    let made = admin.ask("POST", "/v1/tenants/t/installs", Some(request)).await.ok();
    assert_eq!(made["install"]["version"]["signed_by"], "k1");
}
