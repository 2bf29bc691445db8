//! The claims of StatefulSets, which no field ties to them.
//!
//! The controller makes `TEMPLATE-SET-NUMBER` and, as long as nothing is to be deleted with the set, writes no
//! owner into it. (kubernetes/enhancements, KEP 1847)
//!
//! Invariant: a claim of a set is always told; a claim of another name may be told of too many.

/// How claims are called in documents.
pub(crate) const CLAIM: &str = "PersistentVolumeClaim";

/// The names of the sets that a claim of this name may be of: templates and sets may both have hyphens
/// in their names.
pub(crate) fn sets_of_claim(claim: &str) -> impl Iterator<Item = &str> {
    let numbered = claim.rsplit_once('-').filter(|(_, number)| {
        !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
    });
    let names = numbered.into_iter().flat_map(|(rest, _)| {
        let hyphens = rest.match_indices('-');
        hyphens.filter_map(|(at, hyphen)| rest.get(at + hyphen.len()..))
    });
    names.filter(|set| !set.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_names_its_set_between_template_and_number() {
        let sets = |claim| sets_of_claim(claim).collect::<Vec<&str>>();
        assert_eq!(sets("data-db-0"), ["db"]);
        assert_eq!(
            sets("www-data-es-master-12"),
            ["data-es-master", "es-master", "master"]
        );
        for other in [
            "data-db",
            "data",
            "data-0",
            "data-db-x1",
            "data-db-",
            "",
            "-0",
            "--0",
        ] {
            assert!(sets(other).is_empty(), "{other}");
        }
    }
}
