# The addon: host C++ only. Kernels (native/kernels) are built into checkpoints, not into it. Started by native/build.mjs, in a folder
# of copies whose path needs no quotation.
{
  "variables": { "sanitize%": "false", "werror%": "false" },
  "targets": [
    {
      "target_name": "ladder",
      "sources": ["<!@(node native/build.mjs --list-sources)"],
      "include_dirs": ["node-addon-api"],
      "defines": ["NAPI_VERSION=8", "NAPI_CPP_EXCEPTIONS", "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS"],
      "cflags_cc!": ["-fno-exceptions", "-fno-rtti"],
      "cflags_cc": ["-std=c++17", "-fexceptions", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-unused-parameter", "-ffp-contract=off"],
      # Threads of ours may outlive the last environment, so the code must never be unmapped.
      "ldflags": ["-Wl,-z,nodelete", "-Wl,--version-script=<(module_root_dir)/native/exports.map"],
      "libraries": ["-ldl", "-lpthread"],
      "conditions": [
        # Line numbers are all that a stack trace needs.
        ["sanitize=='true'", {
          "cflags_cc": ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer", "-g1", "-O1"],
          "ldflags": ["-fsanitize=address,undefined"]
        }],
        # For g++. As a system's folder, node-addon-api is not warned of.
        ["werror=='true'", {
          "cflags_cc": [
            "-isystem<(module_root_dir)/node-addon-api",
            "-Werror", "-Wcast-qual", "-Wduplicated-branches", "-Wduplicated-cond", "-Wextra-semi", "-Wformat=2", "-Wlogical-op",
            "-Wnon-virtual-dtor", "-Wold-style-cast", "-Woverloaded-virtual", "-Wredundant-decls", "-Wshadow", "-Wsuggest-override",
            "-Wundef", "-Wvla", "-Wzero-as-null-pointer-constant"
          ]
        }]
      ]
    }
  ]
}
