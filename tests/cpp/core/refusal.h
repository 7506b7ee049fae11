#pragma once

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>

namespace jenga::core {

// std::invalid_argument whose text begins with `text`.
template <typename Call>
void expect_refusal(Call&& call, const std::string& text) {
  try {
    call();
    ADD_FAILURE() << "nothing thrown, expected: " << text;
  } catch (const std::invalid_argument& error) {
    EXPECT_EQ(std::string(error.what()).substr(0, text.size()), text);
  }
}

}  // namespace jenga::core
