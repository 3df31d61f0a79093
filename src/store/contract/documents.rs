//! What every backend must do with documents.

use super::*;

pub(crate) fn document(text: &str, until: Option<UnixMillis>) -> Document {
    Document { body: SecretBytes::new(text.as_bytes().to_vec()), until }
}

pub(crate) async fn a_document_is_kept_whole_and_listed_in_order(store: SharedStore) {
    let of = Collection::Tokens;
    let swap = |name: &'static str, expected: Option<Document>, new: Option<Document>| {
        let store = store.clone();
        async move { store.swap_document(of, name, expected, new).await.unwrap() }
    };
    assert!(store.document(of, "a").await.unwrap().is_none());
    assert!(swap("a", None, None).await, "nothing is in the place of nothing");
    let (one, two) = (document("one", Some(later(10))), document("two", None));
    assert!(swap("a", None, Some(one.clone())).await);
    assert!(!swap("a", None, Some(two.clone())).await, "something is there");
    assert!(!swap("a", Some(two.clone()), None).await, "something else is there");
    assert!(store.document(of, "a").await.unwrap() == Some(one.clone()));
    assert!(store.document(Collection::Profiles, "a").await.unwrap().is_none(), "collections are apart");
    for name in ["c", "b/x", "zoë"] {
        assert!(swap(name, None, Some(two.clone())).await);
    }
    let names = |page: Vec<(String, Document)>| page.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(store.documents(of, None, 99).await.unwrap()), ["a", "b/x", "c", "zoë"]);
    assert_eq!(names(store.documents(of, Some("a"), 2).await.unwrap()), ["b/x", "c"]);
    assert!(swap("c", Some(two.clone()), None).await);
    assert!(store.document(of, "c").await.unwrap().is_none());
    assert_eq!(names(store.documents(of, Some("b/x"), 9).await.unwrap()), ["zoë"]);
    // One that comes again, and without an end, is not forgotten with the one before.
    assert!(swap("c", None, Some(two.clone())).await);
    assert!(swap("a", Some(one), Some(two.clone())).await);
    assert!(swap("zoë", Some(two.clone()), Some(document("three", Some(later(10))))).await);
    store.prune(later(10)).await.unwrap();
    assert_eq!(names(store.documents(of, None, 99).await.unwrap()), ["a", "b/x", "c"]);
    assert!(store.document(of, "zoë").await.unwrap().is_none());
    assert!(store.document(of, "c").await.unwrap() == Some(two));
}

pub(crate) async fn i4_a_document_is_swapped_once_under_concurrency(store: SharedStore) {
    let of = Collection::Profiles;
    for round in 0..50_u8 {
        let answers = sixteen(&store, move |number, store| async move {
            let expected = store.document(of, "x").await.unwrap();
            let new = document(&format!("{round} {number}"), None);
            let before = expected.as_ref().map(|d| d.body.expose().to_vec()).unwrap_or_default();
            let stale = before.starts_with(format!("{round} ").as_bytes());
            (!stale) & store.swap_document(of, "x", expected, Some(new)).await.unwrap()
        })
        .await;
        assert_eq!(answers.into_iter().filter(|yes| *yes).count(), 1, "round {round}");
    }
    // Taking it away is won once, too.
    let kept = store.document(of, "x").await.unwrap();
    let answers = sixteen(&store, move |_, store| {
        let kept = kept.clone();
        async move { store.swap_document(of, "x", kept, None).await.unwrap() }
    })
    .await;
    assert_eq!(answers.into_iter().filter(|yes| *yes).count(), 1);
}
