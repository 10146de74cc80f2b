use super::{super::fixture::*, *};
use crate::report::fixture::written;

const STYLE: Style = Style { color: false, top: 10, verbose: false, finished: true };

fn text(findings: &Findings) -> String {
    written(|out| write(out, findings, STYLE))
}

#[test]
fn show() {
    let mut f = all_sorts();
    f.steered.removable = vec!["a".to_owned()];
    eprintln!("{}", text(&f));
    eprintln!("{}", written(|out| write(out, &f, Style { verbose: true, ..STYLE })));
    f.verdict = Verdict::Inconclusive;
    f.sites.drain(..2);
    f.doubts.push("7 events were lost".to_owned());
    eprintln!("{}", text(&f));
    f.verdict = Verdict::Clean;
    f.doubts.clear();
    f.also.clear();
    eprintln!("{}", text(&f));
}
