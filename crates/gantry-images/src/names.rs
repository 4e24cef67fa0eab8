//! Giving names to images.

use gantry_model::reference::Reference;

use crate::error::{Error, Result};
use crate::local::{self, Asked};
use crate::{Images, LEASE};

impl Images {
    /// Gives an image another name. A name that is taken moves; the image that had it stays without.
    pub async fn tag(&self, image: &str, name: &Reference) -> Result<()> {
        if name.digest().is_some() {
            return Err(Error::invalid("name", name.familiar(), "a name that is given has no digest"));
        }
        let (image, name) = (image.to_owned(), name.clone().with_default_tag());
        self.blocking("tag", move |store| {
            let lease = store.lease(&format!("tag {image}"), LEASE)?;
            let (found, asked) = local::find(store, &image)?;
            let named = match &asked {
                Asked::Name(asked) => found.names.iter().find(|(there, _)| there == asked).map(|(_, target)| target),
                Asked::Id => None,
            };
            let target = named.or(found.targets.first()).ok_or_else(|| Error::NoSuchImage(image.clone()))?;
            store.tag(&lease, &name, target)?;
            Ok(())
        })
        .await
    }
}
