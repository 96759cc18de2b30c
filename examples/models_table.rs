//! Writes docs/models.md, the list of the registry's models: `cargo run --example models_table > docs/models.md`.

fn main() {
    print!("{}", models_table());
}

/// The page: a table of each family.
fn models_table() -> String {
    let models = candlescope::hub::known_models();
    let families: Vec<_> = models.chunk_by(|one, next| one.family == next.family).collect();
    let mut page = format!(
        "# Models\n\n\
         {} models of {} families have a short name. Any other repository on the hub loads too, by its full name, if its \
         family (`model_type` in config.json) is one of these; so does a folder of your own. `candlescope models FILTER` \
         and, in a notebook, `find_models(\"FILTER\")` list the same. Upper and lower case are the same in short names.\n\n\
         This page is made from `src/hub/models.tsv` by `cargo run --example models_table > docs/models.md`.\n",
        models.len(),
        families.len(),
    );
    for family in families {
        let name = family.first().map_or("", |model| model.family);
        page += &format!("\n## {name}\n\n| short names | hub name | parameters |\n|---|---|---|\n");
        for model in family {
            let short: Vec<String> = model.short_names.iter().map(|short| format!("`{short}`")).collect();
            page += &format!("| {} | {} | {} |\n", short.join(", "), model.name, model.parameters);
        }
    }
    page
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/models.md");
        let page = std::fs::read_to_string(path).unwrap().replace("\r\n", "\n");
        assert!(page == super::models_table(), "run: cargo run --example models_table > docs/models.md");
    }
}
