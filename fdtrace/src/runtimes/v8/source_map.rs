//! Source maps (ECMA-426): where the places of a script are in what its compiler or bundler made it of.

use memchr::memmem;
use oxc_sourcemap::OwnedSourceMap;
use serde::{Deserialize, Serialize};

use super::Place;

/// Where a script says that its map is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum MapAt {
    /// In the script itself.
    Inside,
    /// In a file, by the address that it has from the script on.
    Beside(String),
}

/// What stands before a map's address, behind the signs of a comment. `@` is what it was once.
const NAME: &[u8] = b"sourceMappingURL=";
const COMMENTS: [&[u8]; 4] = [b"//# ", b"//@ ", b"/*# ", b"/*@ "];
/// A longer address is none.
const LONGEST: usize = 4096;
/// How a map begins that is in its script.
const INSIDE: &str = "data:application/json";
const BASE64: &str = ";base64,";

/// The address that a script says last.
fn address(script: &[u8]) -> Option<&str> {
    let at = memmem::rfind(script, NAME)?;
    COMMENTS.iter().find(|comment| script[..at].ends_with(comment))?;
    let rest = &script[at + NAME.len()..];
    let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
    std::str::from_utf8(&rest[..end]).ok().filter(|address| !address.is_empty())
}

impl MapAt {
    /// `None` where a script has no map.
    pub(crate) fn of(script: &[u8]) -> Option<Self> {
        let address = address(script)?;
        if address.starts_with(INSIDE) {
            return Some(Self::Inside);
        }
        (address.len() <= LONGEST).then(|| Self::Beside(address.to_owned()))
    }
}

/// A source map.
pub(crate) struct Map(OwnedSourceMap);

impl Map {
    /// `None` where the bytes are none, or one in parts.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        OwnedSourceMap::from_json_string(std::str::from_utf8(bytes).ok()?).ok().map(Self)
    }

    /// The one that a script has in itself.
    pub(crate) fn inside(script: &[u8]) -> Option<Self> {
        let (_, encoded) = address(script)?.split_once(BASE64)?;
        Self::parse(&base64_simd::STANDARD.decode_to_vec(encoded).ok()?)
    }

    /// The source of a place, and the place in that; `None` where the map has nothing there. Without a column, all that the line was
    /// made of has to be one line.
    pub(crate) fn source(&self, place: Place) -> Option<(String, Place)> {
        let line = place.line.checked_sub(1)?;
        let map = self.0.as_source_map();
        let mut on_line = map.get_tokens().filter(|token| token.get_dst_line() == line);
        let (token, column) = match place.column {
            Some(column) => {
                let before = on_line.filter(|token| token.get_dst_col() < column);
                let token = before.max_by_key(oxc_sourcemap::Token::get_dst_col)?;
                (token, Some(token.get_src_col().checked_add(1)?))
            }
            None => {
                let first = on_line.next()?;
                let of = |token: &oxc_sourcemap::Token| (token.get_source_id(), token.get_src_line());
                (on_line.all(|token| of(&token) == of(&first)).then_some(first)?, None)
            }
        };
        let name = map.get_source(token.get_source_id()?)?;
        let root = map.get_source_root().unwrap_or_default().trim_end_matches('/');
        let name = if root.is_empty() { name.to_owned() } else { format!("{root}/{name}") };
        let is_short = name.len() <= LONGEST;
        is_short.then_some((name, Place { line: token.get_src_line().checked_add(1)?, column }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two lines: the first of lines 3 and 5 of `a.ts`, the second of line 1 of `b.ts` and of nothing behind that.
    const MAP: &str =
        r#"{"version":3,"sources":["../src/a.ts","b.ts"],"names":[],"mappings":"IAEE,QAEF;ACJA,I"}"#;

    fn found(map: &str, line: u32, column: Option<u32>) -> Option<(String, u32, Option<u32>)> {
        let (name, place) = Map::parse(map.as_bytes())?.source(Place { line, column })?;
        Some((name, place.line, place.column))
    }

    #[test]
    fn places_have_sources() {
        let at = |line, column| found(MAP, line, column);
        assert_eq!(at(1, Some(4)), None, "before the first");
        assert_eq!(at(1, Some(5)), Some(("../src/a.ts".to_owned(), 3, Some(3))));
        assert_eq!(at(1, Some(500)), Some(("../src/a.ts".to_owned(), 5, Some(1))));
        assert_eq!(at(1, None), None, "of two lines");
        assert_eq!(at(2, Some(1)), Some(("b.ts".to_owned(), 1, Some(1))));
        assert_eq!(at(2, Some(9)), None, "of nothing");
        assert_eq!([at(0, None), at(3, Some(1))], [const { None }; 2]);
        let rooted = MAP.replacen('{', r#"{"sourceRoot":"webpack://app/","#, 1);
        assert_eq!(found(&rooted, 2, Some(1)).map(|found| found.0).as_deref(), Some("webpack://app/b.ts"));
    }

    #[test]
    fn maps_are_where_scripts_say() {
        let at = |script: &str| MapAt::of(script.as_bytes());
        let beside = |address: &str| Some(MapAt::Beside(address.to_owned()));
        assert_eq!(at("f();\n//# sourceMappingURL=app.js.map\n"), beside("app.js.map"));
        assert_eq!(at("//# sourceMappingURL=a.map\nf();\n/*# sourceMappingURL=b.map */"), beside("b.map"));
        assert_eq!(at("const a = 'sourceMappingURL=x';"), None);
        assert_eq!(at("//# sourceMappingURL="), None);
        let encoded = base64_simd::STANDARD.encode_to_string(MAP);
        let script =
            format!("f();\n//# sourceMappingURL=data:application/json;charset=utf-8;base64,{encoded}");
        assert_eq!(at(&script), Some(MapAt::Inside));
        let map = Map::inside(script.as_bytes()).expect("a map");
        assert!(map.source(Place { line: 2, column: Some(1) }).is_some());
    }

    #[test]
    fn maps_that_are_none() {
        for bytes in ["", "{", "[]", r#"{"version":3,"sources":[],"names":[],"mappings":"AAgggggggggggggA"}"#]
        {
            assert!(found(bytes, 1, Some(1)).is_none(), "{bytes}");
        }
        let nowhere = r#"{"version":3,"sources":[],"names":[],"mappings":"AAAA"}"#;
        assert_eq!(found(nowhere, 1, Some(1)), None);
        assert!(Map::inside(b"//# sourceMappingURL=data:application/json;base64,%%%").is_none());
    }
}
