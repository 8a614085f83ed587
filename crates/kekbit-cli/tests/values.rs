//! What `--json` shows of records whose channel says what they are.

mod common;

use common::{Place, Run, assert_fails, kek};
use kekbit::typed::Plain;
use kekbit::{Journal, Lz4, Roll, Timestamp, Writer};
use serde_json::{Value, json};
use zerocopy::little_endian::{F32, F64, I16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy)]
#[repr(C)]
struct Sample {
    time: U64,
    price: F64,
    weight: F32,
    size: U32,
    symbol: [u8; 6],
    depth: [I16; 3],
    secret: [u8; 4],
}

kekbit::record_type!(Sample as "test.sample.v1" { time, price, weight, size, symbol as text, depth });

fn sample(number: u32) -> Sample {
    Sample {
        time: u64::MAX.into(),
        price: 1.5.into(),
        weight: 0.1.into(),
        size: number.into(),
        symbol: *b"AAPL\0\0",
        depth: [1, -2, 3].map(I16::from),
        secret: *b"hush",
    }
}

fn shown(number: u32) -> Value {
    let depth = json!([1, -2, 3]);
    json!({ "time": u64::MAX, "price": 1.5, "weight": 0.1, "size": number, "symbol": "AAPL", "depth": depth })
}

fn lines(output: &std::process::Output) -> Vec<Value> {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn fields_of_plain_records_are_shown_by_their_names_and_in_their_order() {
    let place = Place::new();
    let path = place.path("samples.kek");
    let mut writer =
        Writer::options().stage(Timestamp::nanos()).create_typed::<Plain<Sample>>(&path).unwrap();
    writer.append(&sample(7)).unwrap();
    let mut nan = sample(8);
    nan.price = f64::NAN.into();
    writer.append(&nan).unwrap();
    // A record that is none of them.
    writer.inner_mut().append(b"short").unwrap();
    writer.close().unwrap();
    for arguments in [&["cat"][..], &["cat", "--untrusted"], &["tail"]] {
        let output = kek().args(arguments).arg("--json").arg(&path).run("");
        let lines = lines(&output);
        assert_eq!(lines[0]["value"], shown(7), "{arguments:?}");
        assert_eq!(lines[0]["enc"], "base64");
        assert_eq!((&lines[1]["value"]["price"], &lines[1]["value"]["size"]), (&Value::Null, &json!(8)));
        assert!(lines[2].get("value").is_none());
        assert_eq!(lines[2]["data"], "short");
        let text = String::from_utf8(output.stdout).unwrap();
        let order = r#""value":{"time":18446744073709551615,"price":1.5,"weight":0.1,"size":7,"symbol":"AAPL","depth":[1,-2,3]}}"#;
        assert!(text.lines().next().unwrap().ends_with(order), "{text}");
    }
    let output = kek().args(["info", "--json"]).arg(&path).run("");
    let info: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(info["content_type"], "application/x-kekbit-plain");
    assert_eq!(info["schema"], "test.sample.v1");
    let layout = "40:1 time=u64@0 price=f64@8 weight=f32@16 size=u32@20 symbol=text[6]@24 depth=i16[3]@30";
    assert_eq!(info["layout"], layout);
    let output = kek().arg("info").arg(&path).run("");
    assert!(String::from_utf8(output.stdout).unwrap().contains(&format!("layout          {layout}\n")));
}

#[test]
fn each_channel_of_a_journal_is_shown_as_it_says() {
    let place = Place::new();
    let path = place.path("samples");
    let options = || Journal::options().roll(Roll::Bytes(4096));
    let mut journal = options().stage(Lz4::new()).open_typed::<Plain<Sample>>(&path).unwrap();
    for number in 0..200 {
        journal.append(&sample(number)).unwrap();
    }
    journal.close().unwrap();
    let of_journal = common::info(&path);
    let newest = common::info(Journal::channels(&path).unwrap().last().unwrap());
    assert_eq!(of_journal["schema"], "test.sample.v1");
    assert!(of_journal["layout"].as_str().unwrap().contains("price"), "{of_journal}");
    for key in ["schema", "layout", "content_type", "stages"] {
        assert_eq!(of_journal[key], newest[key], "{key}");
    }
    let text = common::stdout_of(kek().arg("info").arg(&path));
    assert!(text.contains("\nschema          test.sample.v1\nlayout "), "{text}");
    let mut bytes = options().replace_type(true).open(&path).unwrap();
    bytes.append(sample(200).as_bytes()).unwrap();
    bytes.close().unwrap();
    for direction in [&[][..], &["--reverse"]] {
        let mut lines = lines(&kek().args(["cat", "--json"]).args(direction).arg(&path).run(""));
        if !direction.is_empty() {
            lines.reverse();
        }
        assert_eq!(lines.len(), 201);
        for (number, line) in lines[..200].iter().enumerate() {
            assert_eq!(line["value"], shown(number as u32), "{number} {direction:?}");
        }
        assert!(lines[200].get("value").is_none());
    }
}

#[test]
fn json_is_shown_as_json_and_stays_on_one_line() {
    let place = Place::new();
    let path = place.path("events.kek");
    let records =
        "{\"a\":1,\"big\":123456789012345678901234567890}\0[1,\n 2]\0no json\0{\"text\":\"two\\nlines\"}\0";
    let mut write = kek();
    write.args(["write", "-0", "--content-type", "application/vnd.events+JSON; charset=utf-8"]).arg(&path);
    assert_eq!(write.run(records).status.code(), Some(0));
    let output = kek().args(["cat", "--json"]).arg(&path).run("");
    let read = lines(&output);
    assert_eq!(read.len(), 4);
    assert_eq!(read[1]["value"], json!([1, 2]));
    assert_eq!(read[1]["data"], "[1,\n 2]");
    assert!(read[2].get("value").is_none());
    assert_eq!(read[3]["value"]["text"], "two\nlines");
    // Not rounded.
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(r#""value":{"a":1,"big":123456789012345678901234567890}}"#), "{text}");

    // What says nothing of the kind is text.
    let path = place.path("plain.kek");
    assert_eq!(
        kek().args(["write", "--content-type", "text/json-ish"]).arg(&path).run("{}\n").status.code(),
        Some(0)
    );
    assert!(lines(&kek().args(["cat", "--json"]).arg(&path).run(""))[0].get("value").is_none());
}

#[test]
fn a_journal_keeps_its_type_until_another_is_given() {
    let place = Place::new();
    let path = place.path("samples");
    let open = || Journal::options().open_typed::<Plain<Sample>>(&path);
    let mut journal = open().unwrap();
    journal.append(&sample(0)).unwrap();
    journal.close().unwrap();
    let write = |options: &[&str], line: &str| kek().args(["write", "-q"]).args(options).arg(&path).run(line);
    let recorded =
        "00000000000000000000.kek: the records are `application/x-kekbit-plain` of `test.sample.v1` (40:1 ";
    assert_fails(&write(&[], "one\n"), 2, recorded);
    let remedy = "and these are of no type: say with --content-type what they are from here on\n";
    assert_fails(&write(&[], "one\n"), 2, remedy);
    // The typed writer did not notice anything.
    let mut journal = open().unwrap();
    assert_eq!(journal.next_sequence(), 1);
    journal.append(&sample(1)).unwrap();
    journal.close().unwrap();
    let json = ["--content-type", "application/json"];
    assert_eq!(write(&json, "[1]\n").status.code(), Some(0));
    // From here on they are JSON, which is handed down.
    assert_eq!(write(&[], "[2]\n").status.code(), Some(0));
    let values = lines(&kek().args(["cat", "--json"]).arg(&path).run(""));
    let values: Vec<_> = values.iter().map(|line| &line["value"]).collect();
    assert_eq!(values, [&shown(0), &shown(1), &json!([1]), &json!([2])]);
    // And may change again.
    assert_eq!(write(&["--content-type", "text/plain"], "[3]\n").status.code(), Some(0));
    let values = lines(&kek().args(["cat", "--json"]).arg(&path).run(""));
    assert!(values.len() == 5 && values[4].get("value").is_none());
    let refused = open().unwrap_err().to_string();
    assert!(refused.contains("the records are `text/plain`, and those that were to follow"), "{refused}");
}
