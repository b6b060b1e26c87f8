# Builds model.so of any number of checkpoints: one unit per folder of LADDER_UNITS, with the builder's generated
# kernels<i>.cu (device code), kernels<i>.gencode (its -gencode values, one per line), host.c (packed functions) and blob.S (the
# module blob, which includes kernels<i>.fatbin).
# Included by the CMakeLists.txt that lib/compiler/emit/compile.ts writes beside the units; driven by cmake-js.
#   LADDER_NVCC     path of nvcc            LADDER_KERNELS  this folder
#   LADDER_UNITS    list of folders         LADDER_FLAGS    nvcc's flags

foreach(unit IN LISTS LADDER_UNITS)
  get_filename_component(name ${unit} NAME)
  file(GLOB sources ${unit}/kernels*.cu)
  set(images "")
  foreach(source IN LISTS sources)
    get_filename_component(stem ${source} NAME_WE)
    set(image ${unit}/${stem}.fatbin)
    file(STRINGS ${unit}/${stem}.gencode targets)
    list(TRANSFORM targets PREPEND "-gencode;" OUTPUT_VARIABLE gencode)
    add_custom_command(
      OUTPUT ${image}
      COMMAND ${LADDER_NVCC} -fatbin ${LADDER_FLAGS} ${gencode} -I ${LADDER_KERNELS} -o ${image} ${source}
      DEPENDS ${source}
      COMMENT "nvcc ${name} ${stem}"
      VERBATIM)
    list(APPEND images ${image})
  endforeach()
  add_library(${name} MODULE ${unit}/host.c ${unit}/blob.S)
  # The assembler reads the images by itself, so CMake must be told of them.
  set_source_files_properties(${unit}/blob.S PROPERTIES OBJECT_DEPENDS "${images}" COMPILE_OPTIONS "-Wa,-I${unit}")
  set_target_properties(${name} PROPERTIES
    C_STANDARD 11 C_VISIBILITY_PRESET hidden POSITION_INDEPENDENT_CODE ON
    PREFIX "" OUTPUT_NAME model SUFFIX .so LIBRARY_OUTPUT_DIRECTORY ${unit})
endforeach()
