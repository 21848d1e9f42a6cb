# What is built for others: the executable and the library.

# The version is the public header's.
file(STRINGS ${CMAKE_SOURCE_DIR}/include/ochre/ochre.h OCHRE_VERSION REGEX "^#define OCH_VERSION  *\"")
string(REGEX REPLACE ".*\"([0-9.]+)\".*" "\\1" OCHRE_VERSION "${OCHRE_VERSION}")

file(GLOB ochre_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/apps/ochre/*.c)
add_executable(ochre ${ochre_sources})
target_link_libraries(ochre PRIVATE ochre_mode)
set_target_properties(ochre PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})
if(NOT OCHRE_SANITIZE)
  find_library(JEMALLOC NAMES libjemalloc.a)
  if(JEMALLOC)
    target_compile_definitions(ochre PRIVATE OCHRE_JEMALLOC)
    target_link_libraries(ochre PRIVATE ${JEMALLOC})
  endif()
endif()
