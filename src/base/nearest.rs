//! Suggests the name that the user meant by a misspelled one.

/// The candidate most like `name`, if it is similar enough.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let lower = name.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_finds_its_name() {
        let names = ["nb_thread", "queue_limit", "next_steps"];
        assert_eq!(nearest("nb_thred", names), Some("nb_thread"));
        assert_eq!(nearest("Next_Step", names), Some("next_steps"));
        assert_eq!(nearest("colour", names), None);
    }
}
