"""The kernel under Python's Jupyter client: progress, an interrupt that keeps the model, an error, a restart."""

import time

from jupyter_client.manager import start_new_kernel

MODEL = 'use candlescope::prelude::*;\nlet model = HookedTransformer::from_pretrained("tiny")?;'
SWEEPS = 'loop { model.sweep("John gave a book to Mary.").at("z").zero().measure(metric::loss()).run()?; }'
LONG = 'model.over(vec!["John gave a book to Mary. ".repeat(4); 4000]).loss()?;'


def run(client, code, meanwhile=lambda: None):
    """The outputs of a cell, and its reply; `meanwhile` is called when it runs."""
    outputs = []

    def hear(message):
        outputs.append(message)
        if message["msg_type"] == "execute_input":
            meanwhile()

    reply = client.execute_interactive(code, timeout=600, output_hook=hear)
    return outputs, reply["content"]


def main():
    manager, client = start_new_kernel(kernel_name="candlescope", startup_timeout=60)
    try:
        _, reply = run(client, MODEL)
        assert reply["status"] == "ok", reply

        outputs, reply = run(client, LONG)
        kinds = [message["msg_type"] for message in outputs]
        assert reply["status"] == "ok" and kinds.count("display_data") == 1, kinds
        assert "update_display_data" in kinds, kinds
        print("progress: one bar,", kinds.count("update_display_data"), "updates")

        asked = []

        def interrupt():
            time.sleep(2)
            asked.append(time.monotonic())
            manager.interrupt_kernel()

        _, reply = run(client, SWEEPS, interrupt)
        took = time.monotonic() - asked[0]
        assert reply["status"] == "error" and reply["ename"] == "interrupt", reply
        outputs, reply = run(client, "model.cfg().n_layers > 0")
        assert reply["status"] == "ok", reply
        print(f"interrupt: {took:.2f} s, and the model is still there")

        _, reply = run(client, "None::<u8>.unwrap();")
        assert (reply["status"], reply["ename"]) == ("error", "panic"), reply

        manager.restart_kernel(now=False)
        client.wait_for_ready(timeout=60)
        _, reply = run(client, "model")
        assert reply["status"] == "error", "a restart begins anew"
        _, reply = run(client, "1 + 1")
        assert reply["status"] == "ok", reply
        print("panic and restart: ok")
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


main()
