"""The kernel under jupyter_kernel_test, which holds every message against Jupyter's schemas.

Two of its tests are skipped, for what this kernel does not have: a pager, and clearing an output. No cell is invalid to
it: one that is wrong is complete, and the compiler says what is wrong.
"""

import unittest

# By its module: a class of tests that is imported by name would be run, too.
import jupyter_kernel_test

# A picture of one pixel, in evcxr's protocol.
PIXEL = r"""println!("EVCXR_BEGIN_CONTENT image/png\n\
iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==\n\
EVCXR_END_CONTENT");"""
HEATMAP = """use candlescope::prelude::*;
imshow(&Tensor::zeros((4, 4), DType::F32, &Device::Cpu)?)?.evcxr_display();
println!("below it");"""


class CandlescopeTests(jupyter_kernel_test.KernelTests):
    kernel_name = "candlescope"
    language_name = "rust"
    file_extension = ".rs"

    code_hello_world = 'println!("hello, world");'
    code_stderr = 'eprintln!("a warning");'
    code_generate_error = "None::<u8>.unwrap();"
    code_inspect_sample = "Vec::new"

    # A function is completed with its arguments.
    completion_samples = [
        {"text": "let word = String::new();\nword.is_em", "matches": ["is_empty()"]},
        {"text": "std::mem::siz", "matches": ["size_of()", "size_of_val(val)"]},
        {"text": "let née = 1;\nné", "matches": ["née"]},
        {"text": 'let text = "no name ends like thi', "matches": []},
    ]

    complete_code_samples = [
        "1 + 1",
        "let x = 1;",
        "fn double(x: u8) -> u8 {\n    2 * x\n}",
        'println!("({[");',
        'let raw = r#"a " ("#;',
        "/* a /* nested */ comment */",
        "'('",
        "#[derive(Debug)]\nstruct Point(i32);",
    ]
    incomplete_code_samples = [
        "let x =",
        "fn double(x: u8) -> u8 {",
        "vec![1, 2,",
        'println!("open',
        'let raw = r#"a "',
        "/* a /* nested */",
        "#[derive(Debug)]",
    ]

    code_execute_result = [
        {"code": "6 * 7", "result": "42"},
        {"code": "let squares: Vec<i32> = (1..4).map(|x| x * x).collect();\nsquares", "result": "[1, 4, 9]"},
        {"code": "#[derive(Debug)]\nstruct Point(i32, char);\nPoint(1, 'é')", "result": "Point(1, 'é')"},
        {"code": PIXEL, "mime": "image/png"},
    ]
    code_display_data = [
        {"code": f'{PIXEL}\nprintln!("below it");', "mime": "image/png"},
        {"code": HEATMAP, "mime": "image/png"},
    ]

    # In a pattern of Jupyter's, * is any text and ? any character.
    code_history_pattern = "6 ? 7*"
    supported_history_operations = ("tail", "range", "search")

    @classmethod
    def setUpClass(cls):
        """Waits for the session: until then nothing is completed, and a cell may take longer than the tests allow."""
        super().setUpClass()
        reply = cls.kc.execute_interactive("0", timeout=600, output_hook=lambda message: None)
        assert reply["content"]["status"] == "ok", f"the kernel does not run a first cell: {reply['content']}"


if __name__ == "__main__":
    unittest.main()
