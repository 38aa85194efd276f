//! Every operation with every way in which an answer can be wrong.

use std::time::Duration;

use longshore_platform::{
    ClientsListInput, CreateManualInvoiceInput, CreateManualInvoiceResult, CreateScheduleInput,
    CreateScheduleResult, Platform, PlatformError, ReadFault, SchedulerFault, ServicesListInput,
    StorageFault, UpdateScheduleInput,
};
use longshore_stub_platform::Fault;

use super::{CALLER, client, start};

/// The operations: API and name on the wire.
const OPERATIONS: [(&str, &str); 15] = [
    ("storage", "get"),
    ("storage", "put"),
    ("storage", "delete"),
    ("storage", "list"),
    ("scheduler", "list"),
    ("scheduler", "get"),
    ("scheduler", "create"),
    ("scheduler", "update"),
    ("scheduler", "delete"),
    ("scheduler", "getEndpoints"),
    ("invoicing", "createManualInvoice"),
    ("clients", "list"),
    ("clients", "get"),
    ("services", "list"),
    ("services", "get"),
];

async fn run(platform: &Platform, operation: (&str, &str)) -> Result<(), PlatformError> {
    let id = CALLER.install;
    match operation {
        ("storage", "get") => platform.storage_get(&CALLER, "ns", "k").await.map(drop),
        ("storage", "put") => platform.storage_put(&CALLER, "ns", "k", b"v", None).await.map(drop),
        ("storage", "delete") => platform.storage_delete(&CALLER, "ns", "k").await,
        ("storage", _) => platform.storage_list(&CALLER, "ns", None).await.map(drop),
        ("scheduler", "list") => platform.schedules_list(&CALLER).await.map(drop),
        ("scheduler", "get") => platform.schedules_get(&CALLER, id).await.map(drop),
        ("scheduler", "create") => {
            let input = CreateScheduleInput {
                endpoint: "/run".to_owned(),
                cron: "0 6 * * *".to_owned(),
                ..Default::default()
            };
            platform.schedules_create(&CALLER, &input).await.map(drop)
        }
        ("scheduler", "update") => {
            // With name and payload nothing has to be read before.
            let (name, payload) = (Some("n".to_owned()), Some("{}".to_owned()));
            let input = UpdateScheduleInput { name, payload, ..Default::default() };
            platform.schedules_update(&CALLER, id, &input).await.map(drop)
        }
        ("scheduler", "delete") => platform.schedules_delete(&CALLER, id).await.map(drop),
        ("scheduler", _) => platform.endpoints(&CALLER).await.map(drop),
        ("invoicing", _) => {
            platform.create_manual_invoice(&CALLER, &CreateManualInvoiceInput::default()).await.map(drop)
        }
        ("clients", "list") => {
            platform.clients_list(&CALLER, None, &ClientsListInput::default()).await.map(drop)
        }
        ("clients", _) => platform.clients_get(&CALLER, None, id).await.map(drop),
        (_, "list") => platform.services_list(&CALLER, None, &ServicesListInput::default()).await.map(drop),
        _ => platform.services_get(&CALLER, None, id).await.map(drop),
    }
}

#[tokio::test]
async fn every_status_of_every_operation_is_told_apart() {
    let (stub, platform) = start().await;
    for operation in OPERATIONS {
        for status in [400, 401, 402, 403, 404, 409, 413, 418, 429, 500, 501, 502, 503, 504] {
            let body = r#"{"error": "because", "code": "SOME_CODE", "details": null}"#;
            stub.fail_next(operation.0, operation.1, Fault::Status(status, body.to_owned()));
            let error = run(&platform, operation).await.unwrap_err();
            assert_eq!(error.status(), Some(status), "{operation:?}");
            assert_eq!(error.problem().unwrap().message, "because");
            let right = match status {
                400 => matches!(error, PlatformError::BadRequest(_)),
                401 => matches!(error, PlatformError::Unauthorized(_)),
                403 => matches!(error, PlatformError::Forbidden(_)),
                404 => matches!(error, PlatformError::NotFound(_)),
                409 => matches!(error, PlatformError::Conflict(_)),
                429 => matches!(error, PlatformError::RateLimited(_)),
                _ => matches!(error, PlatformError::Status { .. }),
            };
            assert!(right, "{operation:?} {status}: {error:?}");
        }
    }
}

#[tokio::test]
async fn an_error_whose_body_is_a_page_of_a_proxy_keeps_its_status() {
    let (stub, platform) = start().await;
    for operation in OPERATIONS {
        for body in ["", "<html>Bad Gateway</html>", "null", "[1]"] {
            stub.fail_next(operation.0, operation.1, Fault::Status(502, body.to_owned()));
            assert_eq!(run(&platform, operation).await.unwrap_err().status(), Some(502));
        }
    }
}

#[tokio::test]
async fn malformed_and_empty_successes_are_no_successes() {
    let (stub, platform) = start().await;
    for operation in OPERATIONS {
        for fault in [
            Fault::Malformed,
            Fault::Empty,
            Fault::Status(204, String::new()),
            Fault::Status(200, " \n".to_owned()),
            Fault::Status(200, "null".to_owned()),
            Fault::Status(200, "7".to_owned()),
            Fault::Status(200, "[]".to_owned()),
            Fault::Status(200, r#""text""#.to_owned()),
            Fault::Status(200, "<html>".to_owned()),
            Fault::Status(200, format!("{}{}", "[".repeat(10_000), "]".repeat(10_000))),
        ] {
            stub.fail_next(operation.0, operation.1, fault.clone());
            let result = run(&platform, operation).await;
            assert!(
                matches!(result, Err(PlatformError::Malformed(_))),
                "{operation:?} {fault:?}: {result:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_redirect_is_an_error_and_the_token_stays_here() {
    let (stub, platform) = start().await;
    let (elsewhere, _) = start().await;
    for operation in OPERATIONS {
        for to in [elsewhere.base_url(), format!("{}/api/internal/x", stub.base_url()), "/".to_owned()] {
            stub.forget_requests();
            stub.fail_next(operation.0, operation.1, Fault::Redirect(to));
            let result = run(&platform, operation).await;
            assert!(matches!(result, Err(PlatformError::Redirect(307))), "{operation:?}: {result:?}");
            assert_eq!(stub.requests().len(), 1);
        }
    }
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn an_answer_over_the_limit_is_an_error() {
    let (stub, platform) = start().await;
    for operation in [("storage", "list"), ("clients", "list"), ("scheduler", "create")] {
        stub.fail_next(operation.0, operation.1, Fault::HugeBody);
        let result = run(&platform, operation).await;
        assert!(
            matches!(result, Err(PlatformError::TooLarge { limit: 8_388_608 })),
            "{operation:?}: {result:?}"
        );
    }
}

#[tokio::test]
async fn a_platform_that_hangs_is_a_timeout() {
    let (stub, platform) = start().await;
    let platform = platform.with_timeout(Duration::from_millis(50));
    for operation in OPERATIONS {
        stub.fail_next(operation.0, operation.1, Fault::Hang);
        let result = run(&platform, operation).await;
        assert!(matches!(result, Err(PlatformError::Timeout(_))), "{operation:?}: {result:?}");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_or_is_refused_is_a_transport_error() {
    let (stub, platform) = start().await;
    for operation in OPERATIONS {
        stub.fail_next(operation.0, operation.1, Fault::DropConnection);
        let result = run(&platform, operation).await;
        assert!(matches!(result, Err(PlatformError::Transport(_))), "{operation:?}: {result:?}");
    }
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let result = run(&client(&format!("http://{free}"), "t"), ("storage", "get")).await;
    assert!(matches!(result, Err(PlatformError::Transport(_))));
}

#[tokio::test]
async fn what_a_guest_gets_of_each_failure() {
    use {ReadFault as R, SchedulerFault as S, StorageFault as K};
    let (stub, platform) = start().await;
    let platform = platform.with_timeout(Duration::from_millis(50));
    let status = |status| Fault::Status(status, r#"{"error": "because"}"#.to_owned());
    for (fault, storage, scheduler, read, text) in [
        (status(400), K::Internal, S::ValidationFailed, R::InvalidInput, "because"),
        (status(401), K::Denied, S::Denied, R::NotAllowed, "http 401"),
        (status(403), K::Denied, S::Denied, R::NotAllowed, "because"),
        (status(404), K::Missing, S::NotFound, R::Internal, "because"),
        (status(409), K::Conflict, S::Internal, R::Internal, "because"),
        (status(429), K::Denied, S::QuotaExceeded, R::Internal, "because"),
        (status(500), K::Internal, S::Internal, R::Internal, "http 500"),
        (Fault::Status(403, String::new()), K::Denied, S::Denied, R::NotAllowed, "http 403"),
        (Fault::Redirect("/".to_owned()), K::Internal, S::Internal, R::Internal, "transport failure"),
        (Fault::Hang, K::Internal, S::Internal, R::Internal, "transport failure"),
        (Fault::DropConnection, K::Internal, S::Internal, R::Internal, "transport failure"),
        (Fault::Malformed, K::Internal, S::Internal, R::Internal, "malformed answer"),
        (Fault::Empty, K::Internal, S::Internal, R::Internal, "malformed answer"),
    ] {
        for operation in OPERATIONS {
            stub.fail_next(operation.0, operation.1, fault.clone());
            let error = run(&platform, operation).await.unwrap_err();
            match operation {
                ("storage", _) => assert_eq!(StorageFault::from(&error), storage, "{fault:?}"),
                ("clients" | "services", _) => assert_eq!(ReadFault::from(&error), read, "{fault:?}"),
                ("scheduler", "list" | "get" | "getEndpoints") => {
                    assert_eq!(SchedulerFault::from(&error), scheduler, "{fault:?}");
                }
                ("scheduler", _) => {
                    assert_eq!(CreateScheduleResult::from(&error).error.as_deref(), Some(text), "{fault:?}")
                }
                _ => assert_eq!(
                    CreateManualInvoiceResult::from(&error).error.as_deref(),
                    Some(text),
                    "{fault:?}"
                ),
            }
        }
    }
}
