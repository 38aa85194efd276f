//! The reference page, made from the declarations.

use super::{Group, Setting};

/// A Markdown section with a table for each group; `docs/configuration.md` is made of these.
pub fn markdown(groups: &[Group]) -> String {
    let mut page = String::new();
    for group in groups {
        page.push_str(&format!("## {}\n\n{}\n\n", group.title, one_paragraph(group.doc)));
        page.push_str("| Variable | Flag | Value | Default | Meaning |\n| --- | --- | --- | --- | --- |\n");
        for setting in group.settings {
            page.push_str(&row(setting));
        }
        page.push('\n');
    }
    page
}

fn row(setting: &Setting) -> String {
    let mut names = format!("`{}`", setting.name);
    for alias in setting.aliases {
        names.push_str(&format!(", `{alias}`"));
    }
    let mut meaning = one_paragraph(setting.doc);
    if let Some(file) = setting.file {
        names.push_str(&format!(", `{}`", file.name));
        meaning.push_str(&format!(" `{}` names a file that holds it", file.name));
        meaning
            .push_str(&file.default.map_or_else(|| ".".to_owned(), |path| format!(" (default `{path}`).")));
    }
    let default = match (setting.default, setting.required) {
        (Some(default), _) => format!("`{default}`"),
        (None, true) => "required".to_owned(),
        (None, false) => "unset".to_owned(),
    };
    let cells = [&names, &format!("`--{}`", setting.flag()), &(setting.expected)(), &default, &meaning];
    format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | "))
}

/// Doc comments are wrapped by hand; a table cell is one line.
fn one_paragraph(doc: &str) -> String {
    doc.split_whitespace().collect::<Vec<_>>().join(" ")
}
