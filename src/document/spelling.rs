//! Names that exist, for those that do not: "did you mean".

/// The existing name nearest to `name`, where one is near enough to be what was meant.
pub fn nearest<'a>(name: &str, existing: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    existing
        .into_iter()
        .map(|candidate| (closeness(name, candidate), candidate))
        .filter(|(score, _)| *score > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// From 0 to 1. Short words with two letters exchanged are near, which Jaro and Winkler do not see.
fn closeness(name: &str, candidate: &str) -> f64 {
    let one_slip = candidate.len() > 2 && strsim::damerau_levenshtein(name, candidate) == 1;
    strsim::jaro_winkler(name, candidate).max(if one_slip { 0.85 } else { 0.0 })
}

/// "did you mean `x`?", or the list of what there is.
pub fn suggestion<'a>(name: &str, existing: impl IntoIterator<Item = &'a str> + Clone) -> Option<String> {
    if let Some(near) = nearest(name, existing.clone()) {
        return Some(format!("did you mean `{near}`?"));
    }
    let all: Vec<String> = existing.into_iter().map(|name| format!("`{name}`")).collect();
    if all.is_empty() { None } else { Some(format!("there is {}", all.join(", "))) }
}
