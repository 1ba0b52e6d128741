# SPDX-License-Identifier: MIT
#
# writers.cmake - the writers' sources, and what is made for them at build time: pprof's messages by protobuf-c
# and the HTML page. Included by src/report/CMakeLists.txt before the library is defined; then
#   target_sources(<library> PRIVATE ${MODA_WRITER_SOURCES})
#   target_include_directories(<library> PRIVATE ${MODA_WRITER_INCLUDES})
#   target_link_libraries(<library> PRIVATE ${MODA_WRITER_LIBRARIES})
find_package(ZLIB REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(PROTOBUF_C REQUIRED IMPORTED_TARGET libprotobuf-c)
find_program(PROTOC_C NAMES protoc-c REQUIRED)

set(MODA_WRITER_MADE ${CMAKE_CURRENT_BINARY_DIR}/made)
file(MAKE_DIRECTORY ${MODA_WRITER_MADE})
add_custom_command(
  OUTPUT ${MODA_WRITER_MADE}/profile.pb-c.c ${MODA_WRITER_MADE}/profile.pb-c.h
  COMMAND ${PROTOC_C} --proto_path=${CMAKE_CURRENT_SOURCE_DIR} --c_out=${MODA_WRITER_MADE} profile.proto
  DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/profile.proto
  COMMENT "protoc-c profile.proto"
  VERBATIM)
set(moda_html ${CMAKE_CURRENT_SOURCE_DIR}/html)
add_custom_command(
  OUTPUT ${MODA_WRITER_MADE}/report_html.c
  COMMAND ${CMAKE_COMMAND} -DSOURCE=${moda_html} -DOUTPUT=${MODA_WRITER_MADE}/report_html.c
          -P ${moda_html}/embed.cmake
  DEPENDS ${moda_html}/embed.cmake ${moda_html}/report.html ${moda_html}/report.css ${moda_html}/report.js
  COMMENT "HTML report page"
  VERBATIM)
# What protoc-c writes is not ours to keep free of warnings.
set_source_files_properties(${MODA_WRITER_MADE}/profile.pb-c.c PROPERTIES COMPILE_OPTIONS "-w")

set(MODA_WRITER_SOURCES
  ${CMAKE_CURRENT_SOURCE_DIR}/write_parts.c
  ${CMAKE_CURRENT_SOURCE_DIR}/write_dhat.c
  ${CMAKE_CURRENT_SOURCE_DIR}/write_pprof.c
  ${CMAKE_CURRENT_SOURCE_DIR}/write_heap_v2.c
  ${CMAKE_CURRENT_SOURCE_DIR}/write_folded.c
  ${CMAKE_CURRENT_SOURCE_DIR}/write_speedscope.c
  ${CMAKE_CURRENT_SOURCE_DIR}/write_json.c
  ${CMAKE_CURRENT_SOURCE_DIR}/write_csv.c
  ${CMAKE_CURRENT_SOURCE_DIR}/write_diff.c
  ${CMAKE_CURRENT_SOURCE_DIR}/write_html.c
  ${MODA_WRITER_MADE}/profile.pb-c.c
  ${MODA_WRITER_MADE}/profile.pb-c.h
  ${MODA_WRITER_MADE}/report_html.c)
set(MODA_WRITER_INCLUDES ${MODA_WRITER_MADE})
set(MODA_WRITER_LIBRARIES ZLIB::ZLIB PkgConfig::PROTOBUF_C)
