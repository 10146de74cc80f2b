//! docs/json.md: every document and key, from the types that are written (`fdtrace/src/model`) and what is said of them there.

use std::{fmt::Write as _, fs, path::Path};

use syn::{
    Attribute, Expr, Field, Fields, GenericArgument, Item, ItemEnum, ItemStruct, Lit, Meta, PathArguments,
    Type,
};

const HEAD: &str = "\
# JSON

Made from the types that are written (`fdtrace/src/model`, by `fdtrace/tests/reference`); not by hand. Keys may be added, never
renamed or removed, as long as the number in `schema` stays. A key whose value would be empty may be left out of `explain`'s documents.
Times that end in `_ns` are nanoseconds. Stacks have the innermost frame first.
";

/// A page's part: its heading, and the file of the model that defines it.
const PARTS: [(&str, &str); 9] = [
    ("`live --json` (`fdtrace.live/1`), `report --json` (`fdtrace.report/1`)", "report.rs"),
    ("`report --by --json` (`fdtrace.report-by/1`)", "groups.rs"),
    ("`diff --json` (`fdtrace.diff/1`)", "diff.rs"),
    ("`check --json-out` (`fdtrace.check/1`)", "check.rs"),
    ("`explain --json` (`fdtrace.explain/1`)", "explain/mod.rs"),
    ("`explain --json --interval`, `--diff`: the key `growth`", "explain/growth.rs"),
    ("`explain --json --handle` (`fdtrace.explain-handle/1`)", "explain/handle.rs"),
    ("Frames", "stack.rs"),
    ("Words", "kind.rs"),
];

/// Files whose words belong to the last part.
const MORE_WORDS: [&str; 3] = ["origin.rs", "holder.rs", "runtime.rs"];

pub(crate) fn page() -> String {
    let mut page = HEAD.to_owned();
    for (heading, file) in PARTS {
        let _ = write!(page, "\n## {heading}\n");
        write_file(&mut page, file);
    }
    MORE_WORDS.iter().for_each(|file| write_file(&mut page, file));
    page
}

fn write_file(page: &mut String, file: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/model").join(file);
    let text = fs::read_to_string(path).expect("a file of the model");
    for item in syn::parse_file(&text).expect("Rust").items {
        match item {
            Item::Struct(item) if is_written(&item.attrs) => write_struct(page, &item),
            Item::Enum(item) if is_written(&item.attrs) => write_enum(page, &item),
            Item::Macro(item) if item.mac.path.is_ident("words") => {
                write_enum(page, &item.mac.parse_body().expect("an enumeration"));
            }
            _ => {}
        }
    }
}

fn write_struct(page: &mut String, item: &ItemStruct) {
    let Fields::Named(fields) = &item.fields else { return };
    let _ = write!(page, "\n### {}\n\n{}\n", item.ident, doc(&item.attrs));
    let _ = write!(page, "\n| key | value | meaning |\n|---|---|---|\n");
    for field in &fields.named {
        let serde = serde(&field.attrs);
        if serde.iter().any(|word| word == "skip") {
            continue;
        }
        let key = if serde.iter().any(|word| word == "flatten") {
            "its keys".to_owned()
        } else {
            key(field, &serde)
        };
        let _ = writeln!(page, "| {key} | {} | {} |", value(&field.ty), doc(&field.attrs));
    }
}

fn write_enum(page: &mut String, item: &ItemEnum) {
    let lower = serde(&item.attrs).iter().any(|word| word == "rename_all=lowercase");
    let _ = write!(page, "\n### {}\n\n{}\n", item.ident, doc(&item.attrs));
    let _ = write!(page, "\n| word | meaning |\n|---|---|\n");
    for variant in &item.variants {
        let word = match &variant.discriminant {
            Some((_, Expr::Lit(literal))) => literal_text(&literal.lit),
            _ if lower => variant.ident.to_string().to_lowercase(),
            _ => variant.ident.to_string(),
        };
        let _ = writeln!(page, "| `{word}` | {} |", doc(&variant.attrs));
    }
}

fn key(field: &Field, serde: &[String]) -> String {
    let renamed = serde.iter().find_map(|word| word.strip_prefix("rename="));
    let name = field.ident.as_ref().map(ToString::to_string).unwrap_or_default();
    format!("`{}`", renamed.unwrap_or(&name))
}

/// A type as JSON has it.
fn value(of: &Type) -> String {
    let Type::Path(path) = of else { return "array".to_owned() };
    let Some(last) = path.path.segments.last() else { return String::new() };
    let arguments: Vec<&Type> = match &last.arguments {
        PathArguments::AngleBracketed(found) => {
            let types = found.args.iter();
            types
                .filter_map(|argument| if let GenericArgument::Type(of) = argument { Some(of) } else { None })
                .collect()
        }
        _ => Vec::new(),
    };
    match (last.ident.to_string().as_str(), arguments.as_slice()) {
        ("String" | "Cow", _) => "text".to_owned(),
        ("bool", _) => "true or false".to_owned(),
        ("Option", [of]) => format!("{} or null", value(of)),
        ("Vec", [of]) => format!("array of {}", value(of)),
        ("Arc" | "Box", [of]) => value(of),
        ("Counts", _) => "numbers by word".to_owned(),
        ("BTreeMap", [_, of]) => format!("{} by word", value(of)),
        (name, _) if name.starts_with(|first: char| first.is_ascii_lowercase()) => "number".to_owned(),
        (name, _) => name.to_owned(),
    }
}

fn is_written(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let Meta::List(list) = &attribute.meta else { return false };
        list.path.is_ident("derive") && list.tokens.to_string().contains("Serialize")
    })
}

/// What is said of an item, on one line.
fn doc(attributes: &[Attribute]) -> String {
    let lines =
        attributes.iter().filter(|attribute| attribute.path().is_ident("doc")).filter_map(|attribute| {
            match &attribute.meta {
                Meta::NameValue(pair) => Some(pair),
                _ => None,
            }
        });
    let texts = lines.filter_map(|pair| {
        if let Expr::Lit(text) = &pair.value { Some(literal_text(&text.lit)) } else { None }
    });
    texts.map(|line| line.trim().to_owned()).collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// `rename="x"` as `rename=x`, `flatten`.
fn serde(attributes: &[Attribute]) -> Vec<String> {
    let lists = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("serde") => Some(list.tokens.to_string()),
        _ => None,
    });
    let words = |text: String| text.replace(['"', ' '], "").split(',').map(str::to_owned).collect::<Vec<_>>();
    lists.flat_map(words).collect()
}

fn literal_text(literal: &Lit) -> String {
    if let Lit::Str(text) = literal { text.value() } else { String::new() }
}
