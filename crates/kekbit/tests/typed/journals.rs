//! A journal keeps its type, until a writer says that another begins.

use kekbit::WriterOptions;
use kekbit::typed::{Plain, Postcard, TypeError, TypedError};
use kekbit::{Journal, JournalError, Roll, Start, Timestamp, Writer};
use zerocopy::IntoBytes;

use crate::common::{self, dir, patience};
use crate::{Front, Native, Order, Price, names_both, price};

#[test]
fn a_journal_keeps_its_type_across_channels_and_openings() {
    let dir = dir();
    let path = dir.path().join("orders");
    let options = || Journal::options().roll(Roll::Bytes(4096)).stage(Timestamp::nanos());
    let order = |number: u64| Order::Amend(number, Some(number as f64));
    let mut number = 0;
    for _ in 0..3 {
        let mut journal = options().open_typed::<Postcard<Order>>(&path).unwrap();
        for _ in 0..200 {
            journal.append(&order(number)).unwrap();
            number += 1;
        }
        let mut batch = journal.batch();
        batch.push(&order(number)).unwrap();
        batch.push(&order(number + 1)).unwrap();
        batch.commit().unwrap();
        number += 2;
        journal.close().unwrap();
    }
    assert!(Journal::channels(&path).unwrap().len() >= 6, "each opening fills more than one channel");
    let mut reader = Journal::reader(&path).unwrap().typed::<Postcard<Order>>();
    for expected in 0..number {
        assert_eq!(reader.next(patience()).unwrap().unwrap().value, order(expected));
    }
    assert!(reader.try_next().unwrap().is_none());
    for expected in (0..number).rev() {
        assert_eq!(reader.try_previous().unwrap().unwrap().value, order(expected));
    }
    // A cursor with a name, which goes on where it has committed.
    for expected in [0, 1, 2] {
        let mut cursor =
            Journal::reader(&path).unwrap().cursor("billing").unwrap().typed::<Postcard<Order>>();
        assert_eq!(cursor.next(patience()).unwrap().unwrap().value, order(expected));
        cursor.commit();
        assert_eq!(cursor.try_next().unwrap().unwrap().value, order(expected + 1));
    }
    // Another type is refused before anything is made.
    let files = common::names_in(&path);
    let refused = options().open_typed::<Plain<Price>>(&path).unwrap_err();
    assert!(matches!(refused, JournalError::Type(_)));
    names_both(&refused, "`test.order.v1`", "`test.price.v1`");
    assert_eq!(common::names_in(&path), files);
    let unaligned = Journal::options().stage(Front(1)).open_typed::<Plain<Native>>(dir.path().join("new"));
    assert!(matches!(unaligned, Err(JournalError::Type(TypeError::Unaligned { .. }))));
    assert!(!dir.path().join("new").exists());
}

#[test]
fn a_reader_of_a_journal_finds_out_where_another_type_begins() {
    let dir = dir();
    let path = dir.path().join("prices");
    let mut journal = Journal::options().open_typed::<Plain<Price>>(&path).unwrap();
    journal.append_with(|value| *value = price(0)).unwrap();
    journal.close().unwrap();
    // Whoever writes bytes has to say so.
    assert!(matches!(Journal::options().open(&path), Err(JournalError::Type(_))));
    let mut bytes = Journal::options().replace_type(true).open(&path).unwrap();
    assert!(bytes.metadata().schema().is_none() && bytes.metadata().content_type().is_none());
    bytes.append(price(1).as_bytes()).unwrap();
    bytes.close().unwrap();
    let mut reader = Journal::reader(&path).unwrap().typed::<Plain<Price>>();
    assert_eq!(*reader.try_next().unwrap().unwrap().value, price(0));
    let refused = reader.try_next().unwrap_err();
    assert!(matches!(refused, TypedError::Type(TypeError::Other { .. })));
    names_both(&refused, "of no type", "`test.price.v1`");
    assert!(reader.try_next().unwrap().is_none(), "it stands behind it");
    reader.seek(Start::Beginning).unwrap();
    assert_eq!(*reader.try_next().unwrap().unwrap().value, price(0));
    // And the type no longer opens it, since that is not what is there.
    let refused = Journal::options().open_typed::<Plain<Price>>(&path);
    assert!(matches!(refused, Err(JournalError::Type(_))));
    // Until it is told that it begins again.
    let mut journal = Journal::options().replace_type(true).open_typed::<Plain<Price>>(&path).unwrap();
    journal.append(&price(2)).unwrap();
    journal.close().unwrap();
    Journal::options().open_typed::<Plain<Price>>(&path).unwrap().close().unwrap();
    assert!(matches!(reader.try_next(), Err(TypedError::Type(_))));
    assert_eq!(*reader.try_next().unwrap().unwrap().value, price(2));
}

#[test]
fn bytes_do_not_take_a_journal_from_its_typed_writer() {
    let dir = dir();
    let path = dir.path().join("prices");
    let open = || Journal::options().open_typed::<Plain<Price>>(&path);
    let mut journal = open().unwrap();
    journal.append(&price(0)).unwrap();
    journal.close().unwrap();
    let files = common::names_in(&path);
    let refused = Journal::options().open(&path).unwrap_err();
    assert!(matches!(refused, JournalError::Type(TypeError::Journal { .. })));
    names_both(&refused, "`application/x-kekbit-plain` of `test.price.v1` (16:1 bid=", "are of no type");
    names_both(&refused, path.to_str().unwrap(), "replace_type");
    // Nor does what is only in part the same.
    let channels = Writer::options().content_type("application/x-kekbit-plain");
    let refused = Journal::options().channels(channels).open(&path).unwrap_err();
    names_both(&refused, "of `test.price.v1`", "are `application/x-kekbit-plain`: ");
    assert_eq!(common::names_in(&path), files);
    let mut journal = open().unwrap();
    journal.append(&price(1)).unwrap();
    journal.close().unwrap();
    let mut reader = Journal::reader(&path).unwrap().typed::<Plain<Price>>();
    for number in 0..2 {
        assert_eq!(*reader.try_next().unwrap().unwrap().value, price(number));
    }
}

#[test]
fn another_type_begins_with_a_record_of_it() {
    let dir = dir();
    let path = dir.path().join("prices");
    let open = || Journal::options().open_typed::<Plain<Price>>(&path);
    let mut journal = open().unwrap();
    journal.append(&price(0)).unwrap();
    journal.close().unwrap();
    // Whoever appends nothing, or dies before, changes nothing.
    let other = || Journal::options().replace_type(true).open_typed::<Postcard<Order>>(&path).unwrap();
    other().close().unwrap();
    open().unwrap().close().unwrap();
    // A copy is what is left of one that is killed.
    let killed = dir.path().join("killed");
    let journal = other();
    std::fs::create_dir(&killed).unwrap();
    for channel in common::journal::channels(&path) {
        std::fs::copy(&channel, killed.join(channel.file_name().unwrap())).unwrap();
    }
    drop(journal);
    assert_eq!(Journal::channels(&killed).unwrap().len(), 2, "it has begun a channel");
    Journal::options().open_typed::<Plain<Price>>(&killed).unwrap().append(&price(1)).unwrap();
    open().unwrap().close().unwrap();
    other().append(&Order::Cancel).unwrap();
    assert!(matches!(open(), Err(JournalError::Type(_))));
    other().append(&Order::Cancel).unwrap();
    let mut reader = Journal::reader(&path).unwrap().typed::<Postcard<Order>>();
    assert!(matches!(reader.try_next(), Err(TypedError::Type(_))));
    assert_eq!(reader.try_next().unwrap().unwrap().value, Order::Cancel);
    assert_eq!(reader.try_next().unwrap().unwrap().sequence(), 2);
}

/// Opens the journal with these options for its channels and appends a record; the content type and the schema that it then has.
fn append(
    path: &std::path::Path,
    channels: WriterOptions,
    replace: bool,
) -> Result<(Option<String>, Option<String>), JournalError> {
    let mut journal = Journal::options().channels(channels).replace_type(replace).open(path)?;
    journal.append(b"record").unwrap();
    let metadata = journal.metadata();
    let told = (metadata.content_type().map(str::to_owned), metadata.schema().map(str::to_owned));
    journal.close().unwrap();
    Ok(told)
}

#[test]
fn a_content_type_alone_is_handed_down_and_anything_else_has_to_be_said_again() {
    let dir = dir();
    let path = dir.path().join("lines");
    let none = Writer::options;
    let text = || none().content_type("text/plain");
    let told = |content_type: &str| (Some(content_type.to_owned()), None);
    assert_eq!(append(&path, text(), false).unwrap(), told("text/plain"));
    assert_eq!(append(&path, none(), false).unwrap(), told("text/plain"));
    assert_eq!(append(&path, text(), false).unwrap(), told("text/plain"));
    for other in [none().content_type("text/html"), none().schema("lines"), text().schema("lines")] {
        let refused = append(&path, other, false).unwrap_err();
        assert!(matches!(refused, JournalError::Type(TypeError::Journal { .. })), "{refused}");
    }
    let typed = Journal::options().open_typed::<Postcard<Order>>(&path).unwrap_err();
    names_both(&typed, "the records are `text/plain`,", "are `application/x-postcard` of `test.order.v1`:");
    // A schema without a content type is a type, too.
    let schema = append(&path, none().schema("lines"), true).unwrap();
    assert_eq!(schema, (None, Some("lines".into())));
    names_both(&append(&path, none(), false).unwrap_err(), "the records are of `lines`,", "are of no type:");
    assert_eq!(append(&path, none().schema("lines"), false).unwrap(), schema);
    // What says nothing replaces it by nothing, of which then a content type is another.
    assert_eq!(append(&path, none(), true).unwrap(), (None, None));
    assert_eq!(append(&path, none(), false).unwrap(), (None, None));
    names_both(
        &append(&path, text(), false).unwrap_err(),
        "the records are of no type,",
        "are `text/plain`:",
    );
    assert_eq!(append(&path, text(), true).unwrap(), told("text/plain"));
    let journal = Journal::reader(&path).unwrap();
    assert_eq!(journal.path(), path);
    assert_eq!(Journal::channels(&path).unwrap().len(), 8);
}

#[test]
fn a_content_type_that_no_longer_fits_is_an_error() {
    let dir = dir();
    let path = dir.path().join("long");
    append(&path, Writer::options().content_type("x".repeat(3000)), false).unwrap();
    let files = common::names_in(&path);
    let refused = append(&path, Writer::options().meta("key", "y".repeat(1000)), false).unwrap_err();
    assert!(matches!(refused, JournalError::Options(_)), "{refused}");
    assert_eq!(common::names_in(&path), files);
    append(&path, Writer::options().meta("key", "y".repeat(1000)), true).unwrap();
}
