use std::io::{self, Write};

use inferno::flamegraph::{
    Options,
    color::{MultiPalette, Palette},
    from_lines,
};

use super::{Weight, folded};
use crate::model::Document;

/// What is written when there is nothing to draw: inferno would call that an error.
const EMPTY: &str = r#"<?xml version="1.0" standalone="no"?>
<svg version="1.1" width="1200" height="60" xmlns="http://www.w3.org/2000/svg">
<text x="600" y="36" text-anchor="middle" font-family="monospace" font-size="14">no handles to show</text>
</svg>
"#;

/// Writes a flame graph, as SVG.
///
/// # Errors
/// When the output cannot be written.
pub fn write(out: &mut impl Write, document: &Document, weight: Weight) -> io::Result<()> {
    let lines = folded::lines(document, weight);
    if lines.is_empty() {
        out.write_all(EMPTY.as_bytes())?;
        return out.flush();
    }
    from_lines(&mut options(weight), lines.iter().map(String::as_str), &mut *out)?;
    out.flush()
}

fn options(weight: Weight) -> Options<'static> {
    let which = match weight {
        Weight::Live => "live",
        Weight::Allocated => "allocated",
    };
    let mut options = Options::default();
    options.title = format!("{which} file handles by call site");
    options.count_name = "handles".to_owned();
    // This palette knows the mark of the kernel's functions.
    options.colors = Palette::Multi(MultiPalette::Java);
    // The same trace gives the same picture.
    options.deterministic = true;
    options
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Site, fixture::*};

    fn svg(sites: Vec<Site>, weight: Weight) -> String {
        written(|out| write(out, &document(sites), weight))
    }

    #[test]
    fn shows_functions_and_numbers() {
        let svg = svg(
            vec![site("a", 3), Site { origin: crate::model::Origin::Socket, ..site("b", 1) }],
            Weight::Live,
        );
        assert!(svg.contains(">live file handles by call site<"), "{svg}");
        assert!(svg.contains("<title>leak (4 handles, 100.00%)</title>"), "{svg}");
        assert!(svg.contains("<title>alloc_empty_file (4 handles, 100.00%)</title>"), "{svg}");
    }

    #[test]
    fn the_same_document_gives_the_same_picture() {
        assert_eq!(svg(vec![site("a", 3)], Weight::Live), svg(vec![site("a", 3)], Weight::Live));
    }

    #[test]
    fn nothing_to_draw_is_no_error() {
        assert!(svg(vec![site("a", 0)], Weight::Live).contains("no handles to show"));
        assert!(svg(vec![site("a", 0)], Weight::Allocated).contains("allocated file handles by call site"));
    }

    #[test]
    fn hostile_names_do_not_leave_their_element() {
        let names =
            ["</title><script>1</script>", "a 5", "b\u{a0}", "c\0\u{ffff}\x1b", "x;y", "&amp;", "]]>", "# "];
        let sites = names.iter().map(|name| {
            let mut site = site(name, 2);
            site.processes[0].comm = (*name).to_owned();
            site.user_stack[1].symbol = Some((*name).to_owned());
            site.kernel_stack.clear();
            site.user_stack.remove(0);
            site
        });
        let svg = svg(sites.collect(), Weight::Live);
        assert!(!svg.contains("<script>1"), "{svg}");
        assert!(
            !svg.contains(|character: char| character.is_control() && character != '\n' && character != '\t')
        );
        assert!(svg.contains("<title>all (16 handles, 100%)</title>"), "every line counts: {svg}");
    }

    #[test]
    fn every_name_is_in_well_formed_xml() {
        for name in HOSTILE {
            let mut hostile = site("a", 3);
            rename(&mut hostile, name);
            let text = svg(vec![hostile], Weight::Live);
            // Their document type is all that this one has.
            let options =
                roxmltree::ParsingOptions { allow_dtd: true, ..roxmltree::ParsingOptions::default() };
            roxmltree::Document::parse_with_options(&text, options).expect("XML");
        }
    }
}
