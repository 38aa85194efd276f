//! Says what configuration it sees: `environment` (pairs), `config` (pairs, sorted), `get` (of `?name=`), and the tenant of `alga:extension/context`.

use http::bindings::alga::extension::context;
use http::bindings::wasi::cli::environment;
use http::bindings::wasi::config::store;
use http::{IncomingRequest, ResponseOutparam, json, parameter};

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let url = request.path_with_query().unwrap_or_default();
    let mut all = store::get_all().unwrap_or_default();
    all.sort();
    let one = store::get(parameter(&url, "name").unwrap_or_default()).unwrap_or_default();
    http::answer_json(
        out,
        &json!({
            "environment": environment::get_environment(), "arguments": environment::get_arguments(),
            "config": all, "get": one, "tenant": context::get_context().tenant_id,
        }),
    );
}

http::handler!(handle);
