//! `componentize <module> <component>` encodes a core module whose custom sections describe its world (wit-bindgen writes them).
//! `componentize <module.wat> <component> <world> <wit>...` does so for a hand-written module, whose world is read from the WIT folders given.
//! `componentize --describe <component>` reads one that any toolchain made.
//! All print size, imports and exports of the component, one line each; the last one also what its modules ask of an engine's pool.

use std::{env, fs, path::Path};

use anyhow::{Context, Result, bail};
use wasmparser::Payload;
use wit_component::{ComponentEncoder, DecodedWasm, StringEncoding, embed_component_metadata};
use wit_parser::{Resolve, WorldItem, WorldKey};

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [flag, component] = arguments.as_slice()
        && flag == "--describe"
    {
        let bytes = fs::read(component).with_context(|| format!("cannot read {component}"))?;
        report(Path::new(component), &bytes)?;
        return demands(&bytes);
    }
    let (module, output, world) = match arguments.as_slice() {
        [module, output] => (module, output, None),
        [module, output, world, wit @ ..] if !wit.is_empty() => (module, output, Some((world, wit))),
        _ => bail!(
            "usage: componentize <module> <component> [<world> <wit folder>...], or componentize --describe <component>"
        ),
    };
    let mut core = wat::parse_file(module)?;
    if let Some((world, folders)) = world {
        describe_world(&mut core, world, folders)?;
    }
    let component = ComponentEncoder::default()
        .validate(true)
        .module(&core)?
        .encode()
        .with_context(|| format!("cannot encode {module}"))?;
    fs::write(output, &component).with_context(|| format!("cannot write {output}"))?;
    report(Path::new(output), &component)
}

fn describe_world(core: &mut Vec<u8>, world: &str, folders: &[String]) -> Result<()> {
    let mut resolve = Resolve::default();
    let mut main = None;
    for folder in folders {
        main = Some(resolve.push_path(folder)?.0);
    }
    let main = main.context("no WIT given")?;
    let world = resolve.select_world(&[main], Some(world))?;
    embed_component_metadata(core, &resolve, world, StringEncoding::UTF8)
}

fn report(output: &Path, component: &[u8]) -> Result<()> {
    let DecodedWasm::Component(resolve, world) = wit_component::decode(component)? else {
        bail!("{} is no component", output.display());
    };
    let world = &resolve.worlds[world];
    println!("{} {} bytes", output.display(), component.len());
    for (word, items) in [("import", &world.imports), ("export", &world.exports)] {
        for (key, item) in items {
            if !matches!(item, WorldItem::Type { .. }) {
                println!("  {word} {}", name(&resolve, key));
            }
        }
    }
    Ok(())
}

fn name(resolve: &Resolve, key: &WorldKey) -> String {
    resolve.name_world_key(key)
}

/// What instantiating it takes: modules, the core instances made of them, and the memories and tables that these define. A module that is
/// instantiated twice counts once here; none of the toolchains does that.
fn demands(component: &[u8]) -> Result<()> {
    let (mut modules, mut instances, mut memories, mut tables) = (0, 0, Vec::new(), Vec::new());
    for payload in wasmparser::Parser::new(0).parse_all(component) {
        match payload? {
            Payload::ModuleSection { .. } => modules += 1,
            Payload::InstanceSection(section) => {
                for instance in section {
                    instances += u32::from(matches!(instance?, wasmparser::Instance::Instantiate { .. }));
                }
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    memories.push(memory?.initial);
                }
            }
            Payload::TableSection(section) => {
                for table in section {
                    tables.push(table?.ty.initial);
                }
            }
            _ => {}
        }
    }
    println!("  {modules} modules, {instances} core instances");
    println!(
        "  {} memories of {memories:?} pages, {} tables of {tables:?} elements",
        memories.len(),
        tables.len()
    );
    Ok(())
}
