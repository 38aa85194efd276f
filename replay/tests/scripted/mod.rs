//! Guests that do just what a test writes down, so that two of them differ in one thing alone: WebAssembly text, encoded as any guest is.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use longshore_bundle::archive::pack_files;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

const WIT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../proto/wit/extension-runner.wit"));
/// Where the texts of a guest begin.
const TEXTS: usize = 16_384;
/// Where its answer is put together.
const ANSWER: usize = 2_048;
/// Where host functions put their results.
const RESULT: usize = 4_096;

/// What a guest does, one after the other.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(dead_code, reason = "not every user of this module needs all of it")]
pub enum Op {
    /// `logging.log-info`.
    Log(&'static str),
    /// `secrets.list-keys`.
    Keys,
    /// `storage.put` of this key. A digit of how it went is added to the answer: 0, or 1 and the error's place in the WIT.
    Put(&'static str),
    /// `storage.get` of this key, with a digit as well.
    Get(&'static str),
    /// `user.get-user`, with a digit as well.
    User,
    /// So many rounds of a loop.
    Work(u32),
    /// Traps.
    Trap,
    /// Recurses until its stack ends.
    Recurse,
    /// Takes memory until there is none.
    Hog,
    /// Never ends.
    Spin,
}

/// A guest that does this and answers 200 with `answer` and the digits.
pub fn component(ops: &[Op], answer: &str) -> Vec<u8> {
    let mut core = wat::parse_str(text(ops, answer)).unwrap();
    let mut resolve = Resolve::default();
    let package = resolve.push_str("extension-runner.wit", WIT).unwrap();
    let world = resolve.select_world(&[package], Some("runner")).unwrap();
    embed_component_metadata(&mut core, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().validate(true).module(&core).unwrap().encode().unwrap()
}

/// The same as an extension `com.longshore.test.<name>` with every capability that [`Op`] needs.
pub fn bundle(name: &str, version: &str, ops: &[Op], answer: &str) -> Vec<u8> {
    let manifest = serde_json::json!({
        "name": format!("com.longshore.test.{name}"),
        "publisher": "Longshore",
        "version": version,
        "runtime": "wasm-js@1",
        "capabilities": ["cap:log.emit", "cap:secrets.get", "cap:storage.kv", "cap:user.read"],
        "api": { "endpoints": [{ "method": "GET", "path": "/", "handler": "dist/main" }] },
    });
    let files =
        [("manifest.json", manifest.to_string().into_bytes()), ("dist/main.wasm", component(ops, answer))];
    pack_files(files, 3).unwrap()
}

fn text(ops: &[Op], answer: &str) -> String {
    let mut imports = BTreeSet::new();
    let mut data = format!("(data (i32.const {ANSWER}) \"{answer}\")\n");
    let mut body = String::new();
    let mut at = TEXTS;
    let mut put = |text: &str| {
        let place = format!("(i32.const {at}) (i32.const {})", text.len());
        let _ = writeln!(data, "(data (i32.const {at}) \"{text}\")");
        at += text.len();
        place
    };
    let result = format!("(i32.const {RESULT})");
    for op in ops {
        let line = match op {
            Op::Log(line) => {
                imports.insert(r#"(import "alga:extension/logging" "log-info" (func $log (param i32 i32)))"#);
                format!("(call $log {})", put(line))
            }
            Op::Keys => {
                imports.insert(r#"(import "alga:extension/secrets" "list-keys" (func $keys (param i32)))"#);
                format!("(call $keys {result})")
            }
            Op::Put(key) => {
                imports.insert(
                    r#"(import "alga:extension/storage" "put" (func $put (param i32 i32 i32 i32 i32 i32 i32 i64 i32)))"#,
                );
                let (namespace, key, value) = (put("ns"), put(key), put("{}"));
                format!(
                    "(call $put {namespace} {key} {value} (i32.const 0) (i64.const 0) {result}) (call $digit)"
                )
            }
            Op::Get(key) => {
                imports.insert(
                    r#"(import "alga:extension/storage" "get" (func $get (param i32 i32 i32 i32 i32)))"#,
                );
                let (namespace, key) = (put("ns"), put(key));
                format!("(call $get {namespace} {key} {result}) (call $digit)")
            }
            Op::User => {
                imports.insert(r#"(import "alga:extension/user" "get-user" (func $user (param i32)))"#);
                format!("(call $user {result}) (call $digit)")
            }
            Op::Work(rounds) => format!("(call $work (i32.const {rounds}))"),
            Op::Trap => "unreachable".to_owned(),
            Op::Recurse => "(drop (call $recurse (i32.const 0)))".to_owned(),
            Op::Hog => {
                "(loop $more (br_if $more (i32.ge_s (memory.grow (i32.const 16)) (i32.const 0)))) unreachable"
                    .to_owned()
            }
            Op::Spin => "(loop $on (br $on))".to_owned(),
        };
        body.push_str(&line);
        body.push('\n');
    }
    let imports = imports.into_iter().collect::<Vec<_>>().join("\n");
    let length = answer.len();
    // The component ABI of `handler`, as in `tests/guests/behaviours/table-hog.wat`.
    format!(
        r#"(module
{imports}
(memory (export "memory") 2)
{data}
(global $free (mut i32) (i32.const 65536))
(global $length (mut i32) (i32.const {length}))
(func (export "cabi_realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
  (local $start i32)
  (local.set $start (i32.and (i32.add (global.get $free) (i32.const 15)) (i32.const -16)))
  (global.set $free (i32.add (local.get $start) (local.get $size)))
  (if (i32.gt_u (global.get $free) (i32.mul (memory.size) (i32.const 65536)))
    (then (if (i32.lt_s (memory.grow (i32.const 16)) (i32.const 0)) (then unreachable))))
  (local.get $start))
(func $digit
  (i32.store8 (i32.add (i32.const {ANSWER}) (global.get $length))
    (if (result i32) (i32.load8_u {result})
      (then (i32.add (i32.const 49) (i32.load8_u offset=8 {result})))
      (else (i32.const 48))))
  (global.set $length (i32.add (global.get $length) (i32.const 1))))
(func $work (param $rounds i32)
  (loop $more
    (local.set $rounds (i32.sub (local.get $rounds) (i32.const 1)))
    (i32.store (i32.const 512) (i32.mul (i32.load (i32.const 512)) (local.get $rounds)))
    (br_if $more (i32.gt_s (local.get $rounds) (i32.const 0)))))
(func $recurse (param $depth i32) (result i32)
  (i32.add (call $recurse (i32.add (local.get $depth) (i32.const 1))) (i32.load (i32.const 512))))
(func (export "handler") (param $request i32) (result i32)
{body}
  (i32.store16 (i32.const 1024) (i32.const 200))
  (i32.store (i32.const 1028) (i32.const 0))
  (i32.store (i32.const 1032) (i32.const 0))
  (i32.store8 (i32.const 1036) (i32.const 1))
  (i32.store (i32.const 1040) (i32.const {ANSWER}))
  (i32.store (i32.const 1044) (global.get $length))
  (i32.const 1024)))"#
    )
}
