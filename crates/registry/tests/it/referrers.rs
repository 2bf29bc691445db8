//! Registries with a referrers API. Here they are [`Fake`]s: Debian's has none.

use crate::images::{Blob, INDEX, index, referrer};
use crate::memory::back_up;
use crate::misbehaving::{Fake, Good};
use crate::misbehaviour::{options, small, source};

#[test]
fn referrers_are_found_by_the_api_also_new_ones_of_unchanged_tags() {
    let image = small();
    let list = index(&[("amd64", &image)]);
    let signature = referrer(&image.manifest, "cosign", b"signature");
    let second = referrer(&signature.manifest, "timestamp", b"of the signature");
    let mut registry = Good::of("1", &image);
    registry.tag("1", &list);
    registry.referrers = Some(std::collections::BTreeMap::new());
    let unsigned = registry.clone();
    let fake = Fake::start(move |asked, _| unsigned.answer(asked));
    let first = back_up(&source(&fake, options()), None).unwrap();
    assert_eq!(first.failures(), "");
    assert!(
        !first.figures["app"]
            .streamed
            .iter()
            .any(|name| name.starts_with("complete-"))
    );

    registry.add(&signature);
    registry.add(&second);
    let referrers = registry.referrers.as_mut().unwrap();
    referrers.insert(
        image.manifest.digest.clone(),
        vec![signature.manifest.clone()],
    );
    referrers.insert(
        signature.manifest.digest.clone(),
        vec![second.manifest.clone()],
    );
    let fake = Fake::start(move |asked, _| registry.answer(asked));
    let run = back_up(&source(&fake, options()), Some(&first.point)).unwrap();
    assert_eq!(run.failures(), "");
    let has = |blob: &Blob| {
        run.figures["app"]
            .streamed
            .contains(&blob.digest[7..].to_owned())
    };
    assert!(has(&signature.manifest) && has(&second.manifest) && has(&second.blobs[1]));
    assert!(!has(&image.blobs[1]), "the layer is taken over");

    // Restored to a registry without the API: the tag scheme lists them.
    let Some(server) = crate::server::Server::start() else {
        return;
    };
    let target = refloat_registry::RegistryTarget::connect(
        "back",
        &server.address(),
        refloat_registry::TargetOptions::default(),
    );
    crate::roundtrip::restore_all(&target.unwrap(), &run.point);
    let remote = crate::images::Remote::new(&server.host());
    for (subject, referrer) in [(&image, &signature), (&signature, &second)] {
        let tag = subject.manifest.digest.replace(':', "-");
        let (media_type, bytes) = remote.manifest("app", &tag).unwrap();
        assert_eq!(media_type, INDEX);
        let listed: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(listed["manifests"].as_array().unwrap().len(), 1);
        assert_eq!(listed["manifests"][0]["digest"], referrer.manifest.digest);
    }
}
