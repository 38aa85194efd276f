//! A valid component that links and has no `handler`. In a package of its own because the bindings of `kit` demand one.

wit_bindgen::generate!({
    path: ["../../../proto/wit", "../wit"],
    world: "longshore:guests/no-handler",
    generate_all,
});

struct Component;

impl Guest for Component {
    fn ready() -> bool {
        alga::extension::logging::log_info("ready was called");
        true
    }
}

export!(Component);
