//! Which call site repeats the handles of a table of descriptors.

use crate::{
    model::{Document, FullTable, Site},
    stacks::place_of,
};

impl Document {
    /// Adds tables, and says of each which call site repeats handles in it: the one with most descriptors of the process, or
    /// that was refused most.
    pub(crate) fn add_tables(&mut self, mut tables: Vec<FullTable>) {
        let sites = &self.sites;
        for table in &mut tables {
            let own = |site: &Site| {
                site.processes.iter().find(|process| process.pid == table.pid).map(|own| own.live)
            };
            let acquired = sites.iter().filter(|site| site.acquired);
            let most = acquired.filter_map(|site| Some((own(site)?, site.refused, site)));
            if let Some((_, _, site)) = most.max_by_key(|(live, refused, _)| (*live, *refused)) {
                table.site = Some(site.id.clone());
                table.place = Some(place_of(&site.user_stack, &site.kernel_stack));
            }
        }
        self.processes = tables;
    }
}
