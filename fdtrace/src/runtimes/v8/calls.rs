//! The calls in a function's text, in the order in which they happen.
//!
//! V8 makes a source position table only when an exception asks for one, so a function that leaks has none as a rule. Its
//! bytecodes have its calls one after the other, and so has its text.

use tree_sitter::{Node, Parser};

use super::bytecodes::{Kind, Shape};

/// A call in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    /// Where a stack trace says that it is, in bytes.
    pub(super) at: usize,
    pub(super) shape: Shape,
}

/// What a function's text may lack: it begins with its parameters.
const BEFORE: [&str; 4] = ["", "async function* f", "async ", "(class extends Object { constructor"];
const BEHIND: [&str; 4] = ["", "", "", " })"];

/// A text that is longer is not parsed.
const LONGEST: usize = 4 << 20;
/// The deepest tree.
const MAX_DEPTH: usize = 512;

/// The calls of the function whose text this is, from its parameters on, or of a whole script.
pub(super) fn of(text: &str, is_script: bool) -> Vec<Call> {
    if text.len() > LONGEST {
        return Vec::new();
    }
    let ways = if is_script { 0..1 } else { 1..BEFORE.len() };
    let mut parses = ways.filter_map(|way| parse(text, way));
    let mut best = parses.next();
    for other in parses {
        if best.as_ref().is_none_or(|best| best.has_error) && !other.has_error {
            best = Some(other);
        }
    }
    best.map_or_else(Vec::new, |best| best.calls)
}

struct Parsed {
    calls: Vec<Call>,
    has_error: bool,
}

fn parse(text: &str, way: usize) -> Option<Parsed> {
    let (before, behind) = (BEFORE[way], BEHIND[way]);
    let mut parser = Parser::new();
    parser.set_language(&tree_sitter_javascript::LANGUAGE.into()).ok()?;
    let whole = [before, text, behind].concat();
    let tree = parser.parse(&whole, None)?;
    let root = tree.root_node();
    let mut walk = Walk { text: whole.as_bytes(), before: before.len(), calls: Vec::new() };
    match if before.is_empty() { Some(root) } else { first_function(root, 0) } {
        Some(function) if !before.is_empty() => walk.children(function, 0),
        Some(script) => walk.node(script, 0),
        None => return None,
    }
    Some(Parsed { calls: walk.calls, has_error: root.has_error() })
}

fn first_function(node: Node<'_>, depth: usize) -> Option<Node<'_>> {
    if is_function(node) {
        return Some(node);
    }
    let mut cursor = node.walk();
    let children: Vec<_> =
        if depth < MAX_DEPTH { node.named_children(&mut cursor).collect() } else { Vec::new() };
    children.into_iter().find_map(|child| first_function(child, depth + 1))
}

/// Whether it is a function of its own.
fn is_function(node: Node<'_>) -> bool {
    matches!(
        node.kind(),
        "function_declaration"
            | "function_expression"
            | "generator_function"
            | "generator_function_declaration"
            | "arrow_function"
            | "method_definition"
            | "class_static_block"
    )
}

struct Walk<'a> {
    text: &'a [u8],
    before: usize,
    calls: Vec<Call>,
}

impl Walk<'_> {
    fn children(&mut self, node: Node<'_>, depth: usize) {
        let mut cursor = node.walk();
        let children: Vec<_> = node.named_children(&mut cursor).collect();
        children.into_iter().for_each(|child| self.node(child, depth + 1));
    }

    fn node(&mut self, node: Node<'_>, depth: usize) {
        if depth > MAX_DEPTH {
            return;
        }
        match node.kind() {
            // Only what it is called is evaluated here, if that is.
            _ if is_function(node) => self.computed_name(node, depth),
            "field_definition" => self.computed_name(node, depth),
            // What comes after each round stands before the first.
            "for_statement" => {
                let update = node.child_by_field_name("increment");
                let mut cursor = node.walk();
                let children: Vec<_> = node.named_children(&mut cursor).collect();
                for child in children.into_iter().filter(|child| Some(*child) != update) {
                    self.node(child, depth + 1);
                }
                if let Some(update) = update {
                    self.node(update, depth + 1);
                }
            }
            _ => {
                self.children(node, depth);
                self.call(node);
            }
        }
    }

    fn computed_name(&mut self, node: Node<'_>, depth: usize) {
        let name = node.child_by_field_name("name").or_else(|| node.child_by_field_name("property"));
        if let Some(name) = name.filter(|name| name.kind() == "computed_property_name") {
            self.children(name, depth);
        }
    }

    fn call(&mut self, node: Node<'_>) {
        let found = match node.kind() {
            "call_expression" => {
                let Some(callee) = node.child_by_field_name("function") else { return };
                let Some(arguments) = node.child_by_field_name("arguments") else { return };
                // `import()` calls nothing.
                if callee.kind() == "import" {
                    return;
                }
                let kind = match callee.kind() {
                    "member_expression" | "subscript_expression" => Kind::Member,
                    "super" => Kind::New,
                    _ => Kind::Plain,
                };
                let at = self.position(callee, arguments);
                (at, Shape { kind, arguments: count(arguments) })
            }
            "new_expression" => {
                let arguments = node.child_by_field_name("arguments").map_or(Some(0), count);
                (node.start_byte(), Shape { kind: Kind::New, arguments })
            }
            _ => return,
        };
        let (at, shape) = found;
        if let Some(at) = at.checked_sub(self.before) {
            self.calls.push(Call { at, shape });
        }
    }

    /// Where V8 says that a call is: at the name that comes before its arguments, or where there is none at these.
    fn position(&self, callee: Node<'_>, arguments: Node<'_>) -> usize {
        let name = match callee.kind() {
            "member_expression" => callee.child_by_field_name("property"),
            "identifier" | "super" => Some(callee),
            _ => None,
        };
        debug_assert!(arguments.end_byte() <= self.text.len(), "a node is in its text");
        name.map_or(arguments.start_byte(), |name| name.start_byte())
    }
}

/// `None` where not all are counted; a template has its strings before its values.
fn count(arguments: Node<'_>) -> Option<u32> {
    let mut cursor = arguments.walk();
    let mut all = arguments.named_children(&mut cursor).filter(|child| child.kind() != "comment");
    if arguments.kind() == "template_string" {
        let values = all.filter(|child| child.kind() == "template_substitution").count();
        return u32::try_from(values + 1).ok();
    }
    let mut count = 0;
    all.all(|child| {
        count += 1;
        child.kind() != "spread_element"
    })
    .then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called(text: &str, is_script: bool) -> Vec<(&str, Kind, Option<u32>)> {
        let name = |at: usize| text[at..].split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        of(text, is_script)
            .into_iter()
            .map(|call| (name(call.at), call.shape.kind, call.shape.arguments))
            .collect()
    }

    #[test]
    fn calls_come_as_they_happen() {
        let text = "(x) { a(b(1), c.d(x, 2)); for (e(); f(); g()) { new H(...x); } return () => never(); }";
        let expected = [
            ("b", Kind::Plain, Some(1)),
            ("d", Kind::Member, Some(2)),
            ("a", Kind::Plain, Some(2)),
            ("e", Kind::Plain, Some(0)),
            ("f", Kind::Plain, Some(0)),
            ("new", Kind::New, None),
            ("g", Kind::Plain, Some(0)),
        ];
        assert_eq!(called(text, false), expected);
    }

    #[test]
    fn each_kind_of_function_has_its_calls() {
        for text in
            ["(x) => f(x)", "(a = f(1)) { }", "() { return super.f(1); }", "() { if (await f(1)) yield 2 }"]
        {
            assert_eq!(called(text, false).len(), 1, "{text}");
        }
        assert_eq!(
            called("const a = f(1); function g() { h(); } class A { b = c(); [d()]() { e(); } }", true).len(),
            2
        );
        assert_eq!(called("() { super(1); }", false), [("super", Kind::New, Some(1))]);
        assert_eq!(called("a`x${b}y${c}`", true), [("a", Kind::Plain, Some(3))]);
    }

    #[test]
    fn broken_texts_end() {
        for text in ["", "(", "((((", "() { a(", "\u{0}\u{1f600}", ") => f("] {
            of(text, false);
            of(text, true);
        }
        assert!(of(&"f(".repeat(100_000), true).len() < 100_000);
    }
}
